"""Paths and bodies of small HTTP requests, and a reader of error responses."""

from typing import Any

import aiohttp

IMAGES, VIDEOS = "/v1/images/generations", "/v1/videos/generations"
LATENTS: dict[str, Any] = {"prompt": "a snowy mountain", "stream_format": "msgpack", "size": "64x64", "steps": 2}
"""A request for a stream of latents."""
JSON = {"Content-Type": "application/json"}
"""Header of a request whose body is not encoded by the HTTP client."""


def request_head(path: str, length: int, version: str = "1.1") -> bytes:
    """Return the header of a POST request whose JSON body has `length` bytes."""
    fields = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}"
    return f"POST {path} HTTP/{version}\r\n{fields}\r\n\r\n".encode()


async def read_error(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """Return the `error` object of an error response; fail if the body does not have OpenAI's error format."""
    body = await response.json()
    assert set(body) == {"error"}
    assert {"message", "type", "param", "code"} <= set(body["error"])
    error: dict[str, Any] = body["error"]
    return error
