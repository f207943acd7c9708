"""Paths and bodies of small HTTP requests, and a reader of error responses."""

from typing import Any

import aiohttp

IMAGES, VIDEOS = "/v1/images/generations", "/v1/videos/generations"
LATENTS: dict[str, Any] = {"prompt": "a snowy mountain", "stream_format": "msgpack", "size": "64x64", "steps": 2}
"""A request for a stream of latents."""


async def read_error(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """Return the `error` object of an error response; fail if the body does not have OpenAI's error format."""
    body = await response.json()
    assert set(body) == {"error"}
    assert {"message", "type", "param", "code"} <= set(body["error"])
    error: dict[str, Any] = body["error"]
    return error
