"""From a JSON body to a request of the core."""

from typing import Any, TypeVar

import pydantic_core
from aiohttp import web

from codec_http.request_models import (
    Body,
    ImageLatents,
    LatentsBody,
    RenderedBody,
    RenderedImages,
    RenderedVideos,
    VideoLatents,
)
from codec_wire.errors import InvalidRequest, TooLarge, truncated_repr
from codec_wire.latents import Modality
from codec_wire.request import parse_as

_BodyT = TypeVar("_BodyT", bound=Body)

LATENTS: dict[Modality, type[LatentsBody]] = {Modality.IMAGE: ImageLatents, Modality.VIDEO: VideoLatents}
RENDERED: dict[Modality, type[RenderedBody]] = {Modality.IMAGE: RenderedImages, Modality.VIDEO: RenderedVideos}
"""The two kinds of body that each endpoint takes."""

_FOR_LATENTS = "is for latents, and pixels are asked for: add stream_format (msgpack or protobuf), or leave it out"
REFUSED = {
    "pipeline": _FOR_LATENTS,
    "keyframe_interval": _FOR_LATENTS,
    "style": "is not taken: say it in the prompt",
    "moderation": "is not taken: nothing is filtered here",
    "complexity": "is not taken: steps says how much work is done",
    "frame_count": "is not taken: moving pictures are made at /v1/videos/generations",
    "frame_duration_ms": "is not taken: moving pictures are made at /v1/videos/generations",
    "svg": "is not taken: pictures are made of pixels here",
}
"""Fields that cannot be honoured where pixels are asked for, and why. To pass over them would change what was asked."""


def wants_pixels(body: dict[str, Any]) -> bool:
    """Return whether a body is the plain OpenAI-style request: neither stream_format nor modality came."""
    return body.get("stream_format") is None and body.get("modality") is None


async def read_json(request: web.Request) -> dict[str, Any]:
    """Return the body's JSON object. Raises InvalidRequest where it is none, TooLarge over the server's limit."""
    try:
        text = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise TooLarge(f"the body may have at most {request.client_max_size} bytes") from error
    except web.RequestPayloadError:
        raise InvalidRequest("body", "cannot be read as its Content-Encoding says") from None
    try:
        body = pydantic_core.from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequest("body", f"must be a JSON object, got {truncated_repr(text)}: {error}") from None
    if not isinstance(body, dict):
        raise InvalidRequest("body", f"must be a JSON object, got {truncated_repr(body)}")
    return body


def parse_latents(body: dict[str, Any], modality: Modality) -> LatentsBody:
    """Return what `body` asks of the endpoint that makes `modality`. Raises InvalidRequest naming the field."""
    return _parsed(LATENTS[modality], body)


def parse_rendered(body: dict[str, Any], modality: Modality) -> RenderedBody:
    """Return what a body without stream_format and modality asks for. Raises InvalidRequest naming the field."""
    for name, reason in REFUSED.items():
        if body.get(name) is not None:
            raise InvalidRequest(name, f"{reason}; got {truncated_repr(body[name])}")
    return _parsed(RENDERED[modality], body)


def _parsed(kind: type[_BodyT], body: dict[str, Any]) -> _BodyT:
    parsed = parse_as(kind, body)
    if parsed.resolution is None:
        return parsed
    if parsed.size is not None:
        raise InvalidRequest("resolution", "give either size or resolution, got both")
    return parsed.model_copy(update={"size": parsed.resolution})
