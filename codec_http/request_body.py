"""Reading and validation of the JSON body of a generation request."""

import asyncio
from typing import Any, TypeVar

from aiohttp import hdrs, web

from codec_http.body_receiver import Body, receive_body
from codec_http.edit_models import EditBody
from codec_http.json_body import parse_json_object
from codec_http.negotiation import accepted_formats
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
from codec_http.route import JSON
from codec_http.state import BODY_PARSER
from codec_wire.errors import InvalidRequest, UnsupportedMediaType, truncated_repr
from codec_wire.http import GENERATION_PATHS
from codec_wire.latents import Modality
from codec_wire.request import RANDOM_SEED, parse_request_as
from core.service import LatentService

_BodyT = TypeVar("_BodyT", bound=GenerationBody)

INLINE_BYTES = 64 * 1024
"""Maximum size in bytes of a body that is parsed on the event loop.

Parsing a body of up to 64 KiB usually takes less than a millisecond.
"""

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
    "preview_every": "is only valid for latents: use partial_images, or add stream_format (msgpack or protobuf)",
    "complexity": "is not supported: use steps to trade speed for quality",
    "frame_count": _USE_VIDEO_ENDPOINT,
    "frame_duration_ms": _USE_VIDEO_ENDPOINT,
    "markup": "is not supported: send the image without annotations, and a mask for the area to repaint",
    "svg": "is not supported: this server generates raster images only",
}
"""Dictionary of the fields that are not allowed in a request for pixels, with the reason for each field.

If the server ignored the unsupported fields, the result would differ from the requested result.
"""


def requests_pixels(body: dict[str, Any], accept: str) -> bool:
    """Return whether a request is an OpenAI-style request for pixels.

    A request is for latents if its body has one of the fields LATENTS_MARKERS, or if its Accept header names a media
    type of latent streams. Every request that is not for latents is for pixels.
    """
    return all(body.get(name) is None for name in LATENTS_MARKERS) and not accepted_formats(accept)


async def read_generation(
    request: web.Request, service: LatentService, modality: Modality, accept: str
) -> LatentsBody | RenderedBody:
    """Return the validated body of `request`, a request to the endpoint that generates `modality`.

    `service` limits the memory of all bodies. `accept` is the Accept header. Raises UnsupportedMediaType if the
    Content-Type is not JSON. Raises InvalidRequest with the name of the field if a field is missing, invalid or not
    allowed. Raises the errors of receive_body if the body cannot be received.
    """
    _require_json(request)
    with service.admission.memory.reserve() as reservation:
        body = await receive_body(request, reservation)
        if body.size <= INLINE_BYTES:
            return parse_generation(body, modality, accept)
        # One at a time, so that the memory for parsing does not depend on the number of requests.
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(request.app[BODY_PARSER], parse_generation, body, modality, accept)


def _require_json(request: web.Request) -> None:
    """Raise UnsupportedMediaType unless the Content-Type of `request` is that of JSON.

    The check of the Content-Type protects the server against web pages of other origins. Before a page of another
    origin can send JSON, the browser sends a CORS preflight request, which the server can refuse. Before a page sends
    text/plain or a form, the browser does not send a preflight request.
    """
    if request.content_type != JSON:
        received = request.headers.get(hdrs.CONTENT_TYPE)
        raise UnsupportedMediaType(
            f"Content-Type must be {JSON}, got {'nothing' if received is None else truncated_repr(received)}"
        )


def parse_generation(received: Body, modality: Modality, accept: str) -> LatentsBody | RenderedBody:
    """Return the validated body in `received`. See read_generation.

    Raises InvalidRequest with the name of the field if a field is missing, invalid or not allowed. Raises TooLarge if
    the JSON text is too large.
    """
    body = parse_json_object(received.take())
    if requests_pixels(body, accept):
        return parse_rendered_body(body, modality)
    return parse_latents_body(body, modality)


def parse_latents_body(body: dict[str, Any], modality: Modality) -> LatentsBody:
    """Validate the body of a request for latents to the endpoint that generates `modality`.

    Raises InvalidRequest with the name of the field if a field is missing, invalid or not allowed.
    """
    return parse_body(LATENTS_BODIES[modality], body)


def parse_rendered_body(body: dict[str, Any], modality: Modality) -> RenderedBody:
    """Validate the body of a request for pixels to the endpoint that generates `modality`.

    Raises InvalidRequest with the name of the field if a field is missing, invalid or not allowed.
    """
    _reject_unsupported(body)
    return parse_body(RENDERED_BODIES[modality], body)


def parse_edit_body(body: dict[str, Any]) -> EditBody:
    """Validate a request to edit an image.

    Raises InvalidRequest with the name of the field if a field is missing, invalid or not allowed.
    """
    _reject_unsupported(body)
    return parse_body(EditBody, body)


def _reject_unsupported(body: dict[str, Any]) -> None:
    for name, reason in UNSUPPORTED_FIELDS.items():
        if body.get(name) is not None:
            raise InvalidRequest(name, f"{reason}; got {truncated_repr(body[name])}")


def parse_body(model: type[_BodyT], body: dict[str, Any]) -> _BodyT:
    """Validate `body` and return the request as an instance of the class `model`.

    If the seed in `body` is null, the returned request has a random seed. If the value of `resolution` in `body` is not
    null, the field `size` of the returned request has the value of `resolution`.

    Raises InvalidRequest with the name of the field if a field is missing, invalid or not allowed.
    """
    if "seed" in body and body["seed"] is None:
        body = body | {"seed": RANDOM_SEED}
    parsed = parse_request_as(model, body)
    if body.get("resolution") is None:
        return parsed
    if body.get("size") is not None:
        raise InvalidRequest("resolution", "must not be combined with size; got both")
    return parsed.model_copy(update={"size": parsed.resolution})
