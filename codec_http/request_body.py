"""Parse the JSON body of a generation request."""

import asyncio
import codecs
from typing import Any, TypeVar

import pydantic_core
from aiohttp import hdrs, web

from codec_http.negotiation import accepted_formats
from codec_http.request_decompression import decompress
from codec_http.request_models import (
    LATENTS_MARKERS,
    GenerationBody,
    ImageLatentsBody,
    LatentsBody,
    RenderedBody,
    RenderedImagesBody,
    RenderedVideosBody,
    VideoLatentsBody,
)
from codec_wire.errors import InvalidRequest, TooLarge, truncated_repr
from codec_wire.http import GENERATION_PATHS
from codec_wire.latents import Modality
from codec_wire.request import RANDOM_SEED, parse_request_as

_BodyT = TypeVar("_BodyT", bound=GenerationBody)

LATENTS_BODIES: dict[Modality, type[LatentsBody]] = {
    Modality.IMAGE: ImageLatentsBody,
    Modality.VIDEO: VideoLatentsBody,
}
RENDERED_BODIES: dict[Modality, type[RenderedBody]] = {
    Modality.IMAGE: RenderedImagesBody,
    Modality.VIDEO: RenderedVideosBody,
}

_USE_VIDEO_ENDPOINT = f"is not supported: send requests for videos to {GENERATION_PATHS[Modality.VIDEO]}"
UNSUPPORTED_FIELDS = {
    "keyframe_interval": "is only valid for latents: add stream_format (msgpack or protobuf), or remove this field",
    "complexity": "is not supported: use steps to trade speed for quality",
    "frame_count": _USE_VIDEO_ENDPOINT,
    "frame_duration_ms": _USE_VIDEO_ENDPOINT,
    "svg": "is not supported: this server generates raster images only",
}
"""Fields that are rejected in a request for pixels, and the reason. Ignoring them would change the requested result."""


def requests_pixels(body: dict[str, Any], accept: str) -> bool:
    """Return whether a request is an OpenAI-style request for pixels.

    It is one unless the body has a field that applies only to latents (LATENTS_MARKERS), or the Accept header names a
    Codec media type.
    """
    return all(body.get(name) is None for name in LATENTS_MARKERS) and not accepted_formats(accept)


async def read_body(request: web.Request) -> bytes:
    """Return the decompressed body of `request`.

    Raises InvalidRequest if it does not match its Content-Encoding, TooLarge if it exceeds the server's limit.
    """
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise TooLarge(f"the request body must have at most {request.client_max_size} bytes") from error
    except web.RequestPayloadError:
        raise InvalidRequest("body", "cannot be decoded; it must match its Transfer-Encoding header") from None
    encoding = request.headers.get(hdrs.CONTENT_ENCODING)
    if encoding is not None:
        body = await asyncio.to_thread(decompress, body, encoding, request.client_max_size)
    return body


async def read_json(request: web.Request) -> dict[str, Any]:
    """Return the JSON object in the body of `request`.

    Raises InvalidRequest if the body is not a JSON object, TooLarge if it exceeds the server's limit.
    """
    text = await read_body(request)
    try:
        body = pydantic_core.from_json(text.removeprefix(codecs.BOM_UTF8), allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequest("body", f"must be a JSON object, got {truncated_repr(text)}: {error}") from None
    if not isinstance(body, dict):
        raise InvalidRequest("body", f"must be a JSON object, got {truncated_repr(body)}")
    return body


def parse_latents_body(body: dict[str, Any], modality: Modality) -> LatentsBody:
    """Validate a request for latents on the endpoint of `modality`. Raises InvalidRequest with the field's name."""
    return _parse(LATENTS_BODIES[modality], body)


def parse_rendered_body(body: dict[str, Any], modality: Modality) -> RenderedBody:
    """Validate a request for pixels on the endpoint of `modality`. Raises InvalidRequest with the field's name."""
    for name, reason in UNSUPPORTED_FIELDS.items():
        if body.get(name) is not None:
            raise InvalidRequest(name, f"{reason}; got {truncated_repr(body[name])}")
    return _parse(RENDERED_BODIES[modality], body)


def _parse(model: type[_BodyT], body: dict[str, Any]) -> _BodyT:
    if "seed" in body and body["seed"] is None:
        body = body | {"seed": RANDOM_SEED}
    parsed = parse_request_as(model, body)
    if parsed.resolution is None:
        return parsed
    if parsed.size is not None:
        raise InvalidRequest("resolution", "must not be combined with size; got both")
    return parsed.model_copy(update={"size": parsed.resolution})
