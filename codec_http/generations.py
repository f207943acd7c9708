"""Handlers of the generation endpoints.

The handlers in this module stream latents. codec_http.rendering handles requests for pixels.
"""

import asyncio
from collections.abc import Awaitable
from contextlib import aclosing

from aiohttp import hdrs, web

from codec_http.body_encoder import LatentsResponse, StreamBodyEncoder, write_in_parts
from codec_http.encoding import choose_encoding
from codec_http.error_trailer import accepts_trailers, write_eof_with_error
from codec_http.event_stream import accepts_event_stream, send_events
from codec_http.negotiation import negotiate
from codec_http.rendering import render
from codec_http.request_body import read_generation
from codec_http.request_models import RenderedBody
from codec_http.response_headers import generation_headers, start_response
from codec_http.state import REQUEST_TIMEOUT_S, SERVICE
from codec_http.write_deadline import WriteDeadline
from codec_wire.errors import CodecError, InvalidRequest
from codec_wire.events import Frame, Started
from codec_wire.http import ERROR_TRAILER, MAP_PIN_HEADER
from codec_wire.latents import FinishReason, Modality
from codec_wire.maps import parse_map_pin
from codec_wire.server_sent_events import EVENT_STREAM
from core.engine import Job
from core.plan import StreamPlan
from core.service import LatentService


def images(request: web.Request) -> Awaitable[web.StreamResponse]:
    """Handle POST /v1/images/generations."""
    return _generate(request, Modality.IMAGE)


def videos(request: web.Request) -> Awaitable[web.StreamResponse]:
    """Handle POST /v1/videos/generations."""
    return _generate(request, Modality.VIDEO)


async def _generate(request: web.Request, modality: Modality) -> web.StreamResponse:
    service = request.app[SERVICE]
    pinned = parse_map_pin(request.headers.get(MAP_PIN_HEADER))
    accept = ", ".join(request.headers.getall(hdrs.ACCEPT, []))
    generation = await read_generation(request, service, modality, accept)
    if isinstance(generation, RenderedBody):
        return await render(request, generation, pinned)
    plan = service.plan(generation)
    served = service.models.for_plan(plan)
    served.require_map_hash(pinned)
    wire_format, content_type = negotiate(generation.stream_format, accept)
    if accepts_event_stream(accept):
        return await send_events(request, plan, wire_format)
    if plan.has_previews:
        raise InvalidRequest("preview_every", f"requires the request header Accept: {EVENT_STREAM}")
    encoding = choose_encoding(request, served.bundle.dictionary(wire_format, plan.header.pipeline))
    response = LatentsResponse(headers=generation_headers(content_type, plan, service, encoding))
    await _stream(request, response, service, plan, StreamBodyEncoder(encoding.compressor(), wire_format))
    return response


async def _stream(
    request: web.Request,
    response: web.StreamResponse,
    service: LatentService,
    plan: StreamPlan,
    encoder: StreamBodyEncoder,
) -> None:
    """Run `plan` and write each message of the latent stream as soon as it is available.

    If an error occurs after the HTTP header has been written, the error is reported in the last frame. Raises a
    CodecError if the generation fails before the HTTP header is written.
    """
    job = Job(deadline=asyncio.get_running_loop().time() + request.app[REQUEST_TIMEOUT_S])
    has_trailer = accepts_trailers(request)
    if has_trailer:
        response.headers[hdrs.TRAILER] = ERROR_TRAILER
    header = b""
    """The encoded header message while the message waits to be sent together with the first frame, otherwise b"".

    If the first frame will be ready immediately, the header message and the frame are sent in one write.
    """
    async with aclosing(service.generate(plan, job)) as events:
        deadline = WriteDeadline(request, response, job)
        try:
            async for event in events:
                with deadline:
                    if isinstance(event, Started):
                        await start_response(request, response, event)
                        header = await encoder.encode(event.header)
                        if not event.is_followed:
                            await response.write(header)
                            header = b""
                    elif isinstance(event, Frame) and not event.frame.done:
                        await write_in_parts(request, response, (header, *await encoder.encode_parts(event.frame)))
                        header = b""
                    elif isinstance(event, Frame):
                        data = b"".join((header, *await encoder.encode_parts(event.frame), encoder.finish()))
                        if has_trailer and event.frame.finish_reason is FinishReason.ERROR:
                            await response.write(data)  # the reason is raised next
                        else:
                            await response.write_eof(data)
                            job.record.completed = True
        except CodecError as error:
            if not response.prepared:
                raise
            job.record.fail(error)
            if has_trailer:
                with deadline:
                    await write_eof_with_error(request, response, error)
        finally:
            deadline.close()
