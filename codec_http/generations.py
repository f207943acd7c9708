"""POST /v1/images/generations and /v1/videos/generations: a prompt in, a latent stream out, or pixels."""

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass

from aiohttp import web

from codec_http.encoding import choose_encoding
from codec_http.negotiation import negotiate
from codec_http.rendering import render
from codec_http.request_body import parse_latents, parse_rendered, read_json, wants_pixels
from codec_http.state import REQUEST_TIMEOUT_S, SERVICE
from codec_wire import WireFormat, encode
from codec_wire.compression import Compressor
from codec_wire.errors import CodecError
from codec_wire.events import Frame, Started
from codec_wire.http import LATENT_MAP_HEADER, MAP_PIN_HEADER
from codec_wire.latents import LatentFrame, LatentStreamHeader, Modality
from codec_wire.maps import pinned_hash
from core.engine import Job, deadline_of
from core.plan import StreamPlan

log = logging.getLogger(__name__)

IN_PLACE_BYTES = 4096
"""Up to this size a message is compressed where it is: another thread would cost more."""


async def images(request: web.Request) -> web.StreamResponse:
    """Answer POST /v1/images/generations."""
    return await _generate(request, Modality.IMAGE)


async def videos(request: web.Request) -> web.StreamResponse:
    """Answer POST /v1/videos/generations."""
    return await _generate(request, Modality.VIDEO)


async def _generate(request: web.Request, modality: Modality) -> web.StreamResponse:
    service = request.app[SERVICE]
    pinned = pinned_hash(request.headers.get(MAP_PIN_HEADER))
    body = await read_json(request)
    if wants_pixels(body):
        return await render(request, parse_rendered(body, modality), pinned)
    wanted = parse_latents(body, modality)
    plan = service.plan(wanted)
    service.models.require_map_hash(pinned, plan)
    wire_format, content_type = negotiate(wanted.stream_format, ", ".join(request.headers.getall("Accept", [])))
    bundle = service.models.for_plan(plan).bundle
    encoding = choose_encoding(request, bundle.dictionary(wire_format, plan.header.pipeline))
    response = web.StreamResponse(
        headers={
            "Content-Type": content_type,
            LATENT_MAP_HEADER: bundle.hash,
            "Vary": "Accept, Accept-Encoding",
            "Cache-Control": "no-store",
        }
        | encoding.headers
    )
    await _stream(request, response, plan, Body(wire_format, encoding.compressor()))
    return response


@dataclass(frozen=True, slots=True)
class Body:
    """How messages become the bytes of one body."""

    wire_format: WireFormat
    compressor: Compressor

    async def bytes_of(self, message: LatentStreamHeader | LatentFrame) -> bytes:
        """Return what must be sent so that the client can read `message` whole.

        Compressing a large frame takes longer than other clients should wait for the event loop.
        """
        data = encode(message, self.wire_format)
        if len(data) < IN_PLACE_BYTES:
            return self.compressor.compress(data)
        return await asyncio.to_thread(self.compressor.compress, data)


async def _stream(request: web.Request, response: web.StreamResponse, plan: StreamPlan, body: Body) -> None:
    """Write each message as soon as it is there. An error before the first becomes a status, one after it a frame."""
    job = Job(deadline=asyncio.get_running_loop().time() + request.app[REQUEST_TIMEOUT_S])
    async with aclosing(request.app[SERVICE].generate(plan, job)) as events:
        try:
            async for event in events:
                # The deadline counts for the client too: one that does not read must not keep its place for ever.
                async with deadline_of(job):
                    if isinstance(event, Started):
                        await response.prepare(request)
                        await response.write(await body.bytes_of(event.header))
                    elif isinstance(event, Frame):
                        await response.write(await body.bytes_of(event.frame))
        except TimeoutError:
            log.warning("a client did not read its stream in time")
            if request.transport is not None:
                request.transport.abort()
            return
        except CodecError as error:
            if not response.prepared:
                raise
            log.warning("a stream ended with an error: %s", error)
    await response.write_eof(body.compressor.finish())
