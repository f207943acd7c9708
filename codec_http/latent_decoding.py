"""Handler of the decode endpoint, which decodes a latent stream that the client sends."""

import asyncio
from contextlib import aclosing, closing

from aiohttp import hdrs, web

from codec_http.npy import npy_header
from codec_http.pixel_negotiation import IMAGE_MEDIA_TYPES, VIDEO_MEDIA_TYPES, acceptable_formats
from codec_http.query import query_of
from codec_http.received_body import received_messages
from codec_http.state import REQUEST_TIMEOUT_S, SERVICE
from codec_http.write_deadline import WriteDeadline
from codec_wire.codings import IDENTITY
from codec_wire.errors import CodecError, InvalidRequest, truncated_repr
from codec_wire.http import LATENT_MAP_HEADER, MAP_PIN_HEADER, MODEL_HEADER, PIXEL_MEDIA_TYPES, header_value
from codec_wire.maps import parse_map_pin
from core import decoding
from core.decode_plan import MAX_QUALITY, DecodePlan, DecodeRequest
from core.engine import Job
from core.pixel_format import PixelFormat

DECODE_PARAMETERS = {
    "model": "Name or alias of a model. Default: the first model with the latent space of the stream.",
    "quality": "Quality of JPEG and WebP, 0 to 100. Default: 100.",
}
"""Query parameters of the decode endpoint."""
DECODE_HEADERS = (LATENT_MAP_HEADER, MODEL_HEADER, hdrs.VARY)
"""Headers of a decode response, in addition to the headers that every response has."""


async def decode(request: web.Request) -> web.StreamResponse:
    """Handle POST /v1/latents/decode, which decodes a latent stream to an image, a video or an array of pixels."""
    service = request.app[SERVICE]
    job = Job(deadline=asyncio.get_running_loop().time() + request.app[REQUEST_TIMEOUT_S])
    wanted = _wanted(request)
    messages = received_messages(request, service.models.zstd_dictionaries())
    async with aclosing(decoding.decode(service, wanted, messages, job)) as parts:
        plan = await anext(parts)
        assert isinstance(plan, DecodePlan)  # noqa: S101 - the first item is the plan
        response = web.StreamResponse(headers=_headers(plan))
        job.record.coding = IDENTITY
        try:
            with closing(WriteDeadline(request, response, job)) as deadline:
                async for part in parts:
                    assert isinstance(part, bytes)  # noqa: S101 - only the first item is the plan
                    with deadline:
                        if not response.prepared:
                            head = _head(plan)
                            response.content_length = _length(plan, head, part)
                            await response.prepare(request)
                            await response.write(head)
                            job.record.bytes_out += len(head)
                        await response.write(part)
                        job.record.bytes_out += len(part)
        except CodecError as error:
            if not response.prepared:
                raise
            # The client detects that the body is incomplete, because its end is never sent.
            job.record.fail(error)
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("decoding failed after the response was started") from None
        await response.write_eof()
        return response


def _wanted(request: web.Request) -> DecodeRequest:
    query = query_of(request, DECODE_PARAMETERS)
    accept = ", ".join(request.headers.getall(hdrs.ACCEPT, []))
    quality = query.get("quality", str(MAX_QUALITY))
    if not (quality.isascii() and quality.isdecimal() and len(quality) <= 3):
        raise InvalidRequest("quality", f"must be from 0 to {MAX_QUALITY}, got {truncated_repr(quality)}")
    return DecodeRequest(
        image_formats=acceptable_formats(accept, IMAGE_MEDIA_TYPES),
        video_formats=acceptable_formats(accept, VIDEO_MEDIA_TYPES),
        model=query.get("model"),
        map_pin=parse_map_pin(request.headers.get(MAP_PIN_HEADER)),
        quality=int(quality),
    )


def _headers(plan: DecodePlan) -> dict[str, str]:
    return {
        hdrs.CONTENT_TYPE: PIXEL_MEDIA_TYPES[plan.pixel_format],
        LATENT_MAP_HEADER: plan.map_hash,
        MODEL_HEADER: header_value(plan.model),
        hdrs.VARY: f"{hdrs.ACCEPT}, {MAP_PIN_HEADER}",
        hdrs.CACHE_CONTROL: "no-store",
    }


def _head(plan: DecodePlan) -> bytes:
    """Return the header of a .npy file of shape [frames, height, width, 3], or b"" for other file formats."""
    if plan.pixel_format is not PixelFormat.RGB:
        return b""
    return npy_header((plan.num_frames, plan.height, plan.width, 3))


def _length(plan: DecodePlan, head: bytes, part: bytes) -> int | None:
    """Return the length of the response body in bytes, or None if the length is unknown.

    `head` is the header of a .npy file or empty, and `part` is the first part of the pixels.
    """
    return None if plan.pixel_format is PixelFormat.MP4 else len(head) + plan.num_frames * len(part)
