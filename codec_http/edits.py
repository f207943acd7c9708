"""Handler of POST /v1/images/edits, which edits an image with the parameters of OpenAI's API."""

import asyncio

from aiohttp import hdrs, web

from codec_http.body_receiver import Body, receive_body
from codec_http.edit_models import EDIT_TEXT_FIELDS, EditBody, edit_fields
from codec_http.json_body import parse_json_object
from codec_http.multipart import MULTIPART, form_fields, parse_multipart
from codec_http.rendering import render
from codec_http.request_body import parse_edit_body
from codec_http.route import JSON
from codec_http.state import BODY_PARSER, SERVICE
from codec_wire.errors import UnsupportedMediaType, truncated_repr
from codec_wire.http import MAP_PIN_HEADER
from codec_wire.maps import parse_map_pin
from core.input_image import read_input_image


async def edits(request: web.Request) -> web.StreamResponse:
    """Handle POST /v1/images/edits."""
    pinned = parse_map_pin(request.headers.get(MAP_PIN_HEADER))
    body = await _read_edit(request)
    if body.mask is not None:
        # Planned first, so that a request that cannot be served is rejected before an image is decoded.
        request.app[SERVICE].plan_rendered(body, body.n, body.partial_images)
        loop = asyncio.get_running_loop()
        mask = await loop.run_in_executor(request.app[BODY_PARSER], _repainted_pixels, body.mask)
        body = body.model_copy(update={"mask": mask})
    return await render(request, body, pinned)


async def _read_edit(request: web.Request) -> EditBody:
    """Return the validated body of `request`, which is a form or JSON.

    Raises UnsupportedMediaType if the Content-Type is not that of a form or of JSON. Raises InvalidRequest with the
    name of the field if a field is missing, invalid or not allowed. Raises the errors of receive_body if the body
    cannot be received.
    """
    if request.content_type not in (MULTIPART, JSON):
        received = request.headers.get(hdrs.CONTENT_TYPE)
        raise UnsupportedMediaType(
            f"Content-Type must be {MULTIPART} or {JSON}, got "
            f"{'nothing' if received is None else truncated_repr(received)}"
        )
    app = request.app
    with app[SERVICE].admission.memory.reserve() as reservation:
        body = await receive_body(request, reservation)
        parse = _parse_form if request.content_type == MULTIPART else _parse_json
        # One at a time, so that the memory for parsing does not depend on the number of requests.
        content_type = request.headers[hdrs.CONTENT_TYPE]
        return await asyncio.get_running_loop().run_in_executor(app[BODY_PARSER], parse, content_type, body)


def _parse_form(content_type: str, body: Body) -> EditBody:
    return parse_edit_body(edit_fields(form_fields(parse_multipart(content_type, body.take()), EDIT_TEXT_FIELDS)))


def _parse_json(_content_type: str, body: Body) -> EditBody:
    return parse_edit_body(edit_fields(parse_json_object(body.take())))


def _repainted_pixels(mask: bytes) -> bytes:
    from core.alpha_mask import mask_from_alpha  # noqa: PLC0415 - a gateway has no Pillow

    return mask_from_alpha(read_input_image("mask", mask))
