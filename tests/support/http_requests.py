"""What tests ask over HTTP, and how they read a refusal."""

from typing import Any

import aiohttp

IMAGES, VIDEOS = "/v1/images/generations", "/v1/videos/generations"
LATENTS: dict[str, Any] = {"prompt": "a snowy mountain", "stream_format": "msgpack", "size": "64x64", "steps": 2}
"""A request for latents."""


async def error_of(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """Return the error that an answer holds, which has the shape of OpenAI's."""
    body = await response.json()
    assert set(body) == {"error"}
    assert {"message", "type", "param", "code"} <= set(body["error"])
    error: dict[str, Any] = body["error"]
    return error
