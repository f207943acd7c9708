"""From a JSON body to a request of the core: the few fields that HTTP spells in its own way."""

import re
from typing import Any

import pydantic_core
from aiohttp import web

from codec_http.picture_field import PICTURE_FIELDS, picture_bytes
from codec_wire import WireFormat
from core.errors import InvalidRequest, TooLarge, shown
from core.latents import Modality
from core.request import GenerationRequest, parse_request, unknown_field

_SIZE = re.compile(r"(\d{1,6})[xX](\d{1,6})", re.ASCII)
_HTTP_FIELDS = ("stream_format", "resolution", "n", "user")
_ENDPOINTS = {Modality.IMAGE: "/v1/images/generations", Modality.VIDEO: "/v1/videos/generations"}


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
        raise InvalidRequest("body", f"must be a JSON object, got {shown(text)}: {error}") from None
    if not isinstance(body, dict):
        raise InvalidRequest("body", f"must be a JSON object, got {shown(body)}")
    return body


def parse_body(body: dict[str, Any], modality: Modality) -> tuple[GenerationRequest, WireFormat | None]:
    """Return what `body` asks of the endpoint that makes `modality`, and the stream format it names, if any.

    Raises InvalidRequest naming the field.
    """
    values = {name: value for name, value in body.items() if value is not None}
    known = (*GenerationRequest.model_fields, *_HTTP_FIELDS)
    for name in values:
        if name not in known:
            raise unknown_field(name, known)
    stream_format = _stream_format(values.pop("stream_format", None))
    _require_one(values.pop("n", 1))
    values.pop("user", None)  # a note of the caller's own, as OpenAI's clients send it
    values["modality"] = _modality(values.get("modality"), modality)
    size = _size(values.pop("size", None), values.pop("resolution", None))
    for field in PICTURE_FIELDS:
        if field in values:
            values[field] = picture_bytes(field, values[field])
    return parse_request(values | {"size": size}), stream_format


def _stream_format(value: object) -> WireFormat | None:
    if value is None:
        return None
    if value not in tuple(WireFormat):
        raise InvalidRequest("stream_format", f"must be one of {', '.join(WireFormat)}, got {shown(value)}")
    return WireFormat(str(value))


def _require_one(value: object) -> None:
    if value != 1 or isinstance(value, bool):
        raise InvalidRequest("n", f"must be 1: a latent stream holds one generation, got {shown(value)}")


def _modality(value: object, made_here: Modality) -> Modality:
    if value is None or value == made_here:
        return made_here
    if value in tuple(Modality):
        other = Modality(str(value))
        raise InvalidRequest("modality", f"{other} is made at {_ENDPOINTS[other]}; here it is {made_here}")
    raise InvalidRequest("modality", f"must be one of {', '.join(Modality)}, got {shown(value)}")


def _size(size: object, resolution: object) -> tuple[int, int] | None:
    """Return (width, height) in pixels, from `size` ("WxH") or `resolution` ("WxH", or one number for a square)."""
    if size is not None and resolution is not None:
        raise InvalidRequest("resolution", "give either size or resolution, got both")
    field, value = ("size", size) if resolution is None else ("resolution", resolution)
    if value is None:
        return None
    if field == "resolution" and isinstance(value, int) and not isinstance(value, bool):
        value = f"{value}x{value}"
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise InvalidRequest(field, f'must be "WIDTHxHEIGHT" in pixels, e.g. "512x512", got {shown(value)}')
    return int(match[1]), int(match[2])
