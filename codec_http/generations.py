"""POST /v1/images/generations and /v1/videos/generations: a prompt in, a latent stream out."""

import asyncio
import logging
from contextlib import aclosing

from aiohttp import web

from codec_http.negotiation import negotiate
from codec_http.request_body import parse_body, read_json
from codec_http.state import REQUEST_TIMEOUT_S, SERVICE
from codec_wire import WireFormat, encode
from core.engine import Frame, Job, Started, deadline_of
from core.errors import CodecError, UnsupportedModality
from core.latents import Modality
from core.plan import StreamPlan

log = logging.getLogger(__name__)


async def images(request: web.Request) -> web.StreamResponse:
    """Answer POST /v1/images/generations."""
    return await _generate(request, Modality.IMAGE)


async def videos(request: web.Request) -> web.StreamResponse:
    """Answer POST /v1/videos/generations."""
    return await _generate(request, Modality.VIDEO)


async def _generate(request: web.Request, modality: Modality) -> web.StreamResponse:
    service = request.app[SERVICE]
    wanted = parse_body(await read_json(request), modality)
    plan = service.plan(wanted.request)
    if wanted.rendered:
        made = tuple(str(made) for made in service.require_served().model.modalities)
        raise UnsupportedModality(
            "this server streams latents and renders no pixels: "
            "add stream_format (msgpack or protobuf) and decode what comes",
            made,
        )
    wire_format, content_type = negotiate(wanted.stream_format, ", ".join(request.headers.getall("Accept", [])))
    response = web.StreamResponse(
        headers={
            "Content-Type": content_type,
            "Codec-Latent-Map": service.require_served().bundle.hash,
            "Vary": "Accept, Accept-Encoding",
            "Cache-Control": "no-store",
        }
    )
    await _stream(request, response, plan, wire_format)
    return response


async def _stream(
    request: web.Request, response: web.StreamResponse, plan: StreamPlan, wire_format: WireFormat
) -> None:
    """Write each message as soon as it is there. An error before the first becomes a status, one after it a frame."""
    job = Job(deadline=asyncio.get_running_loop().time() + request.app[REQUEST_TIMEOUT_S])
    async with aclosing(request.app[SERVICE].generate(plan, job)) as events:
        try:
            async for event in events:
                # The deadline counts for the client too: one that does not read must not keep its place for ever.
                async with deadline_of(job):
                    if isinstance(event, Started):
                        await response.prepare(request)
                        await response.write(encode(event.header, wire_format))
                    elif isinstance(event, Frame):
                        await response.write(encode(event.frame, wire_format))
        except TimeoutError:
            log.warning("a client did not read its stream in time")
            if request.transport is not None:
                request.transport.abort()
            return
        except CodecError as error:
            if not response.prepared:
                raise
            log.warning("a stream ended with an error: %s", error)
    await response.write_eof()
