"""Paths and bodies of small HTTP requests, and readers of the responses."""

from collections.abc import Mapping
from typing import Any

import aiohttp

from codec_wire import WireFormat
from codec_wire.decoder import LatentDecoder
from tests.support.serving import read_stream

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


async def request_latents(http: Any, fields: Mapping[str, Any]) -> tuple[Any, Mapping[str, str]]:
    """Send `fields` to IMAGES. Return the latents of the image, and the headers of the response."""
    response = await http.post(IMAGES, json=fields)
    assert response.status == 200, await response.text()
    header, frames = read_stream(await response.read(), WireFormat.MSGPACK)
    return LatentDecoder(header).decode(frames[0]), response.headers
