"""The plain OpenAI request: a prompt in, pictures or videos out, rendered here."""

import asyncio
import base64
import logging
import time
from contextlib import aclosing

import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from codec_http.encoding import Encoding, choose_encoding
from codec_http.request_models import RenderedBody, RenderedImages
from codec_http.response_models import RenderedAnswer, RenderedFile
from codec_http.state import REQUEST_TIMEOUT_S, SERVICE
from codec_pixels.images import BEST_QUALITY, encode_image
from codec_pixels.parameters import file_parameters
from codec_pixels.videos import encode_video
from codec_wire.http import LATENT_MAP_HEADER
from core.engine import Job, deadline_exceeded, deadline_of
from core.plan import StreamPlan

log = logging.getLogger(__name__)


async def render(request: web.Request, wanted: RenderedBody, pinned: str | None) -> web.Response:
    """Answer with what `wanted` asks for, all of it one job, which keeps its place until the client has read.

    `pinned` is the hash of the map that the client holds, None where it pins none.
    """
    service = request.app[SERVICE]
    plans = service.plan_rendered(wanted, wanted.n)
    service.models.require_map_hash(pinned, plans[0])
    encoding = choose_encoding(request, None)
    map_hash = service.models.for_plan(plans[0]).bundle.hash
    job = Job(deadline=asyncio.get_running_loop().time() + request.app[REQUEST_TIMEOUT_S])
    files: list[RenderedFile] = []
    async with aclosing(service.render(plans, job)) as rendered:
        for plan in plans:
            pixels = (await anext(rendered)).frames
            files.append(await asyncio.to_thread(_file_of, pixels, plan, wanted, map_hash))
        response = web.Response(
            body=await asyncio.to_thread(_body_of, files, plans[0], wanted, encoding),
            headers={
                "Content-Type": "application/json",
                LATENT_MAP_HEADER: map_hash,
                "Vary": "Accept, Accept-Encoding",
                "Cache-Control": "no-store",
            }
            | encoding.headers,
        )
        await _send(request, response, job)
    return response


async def _send(request: web.Request, response: web.Response, job: Job) -> None:
    """Send the whole answer. The deadline counts for the client too: one that does not read is left."""
    try:
        async with deadline_of(job):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        if not response.prepared:
            raise deadline_exceeded() from None
        log.warning("a client did not read its pictures in time")
        if request.transport is not None:
            request.transport.abort()


def _file_of(pixels: NDArray[np.uint8], plan: StreamPlan, wanted: RenderedBody, map_hash: str) -> RenderedFile:
    parameters = file_parameters(plan.header, map_hash, pixels.shape, plan.file_parameters())
    if isinstance(wanted, RenderedImages):
        quality = BEST_QUALITY if wanted.output_compression is None else wanted.output_compression
        data = encode_image(pixels[0], wanted.output_format, parameters, quality)
    else:
        data = encode_video(pixels, plan.header.fps or 1, parameters)
    return RenderedFile(b64_json=base64.b64encode(data).decode(), seed=plan.seed)


def _body_of(files: list[RenderedFile], plan: StreamPlan, wanted: RenderedBody, encoding: Encoding) -> bytes:
    answer = RenderedAnswer(
        created=int(time.time()),
        data=files,
        output_format=wanted.output_format,
        size=f"{plan.width}x{plan.height}",
    )
    compressor = encoding.compressor()
    return compressor.compress(answer.model_dump_json().encode()) + compressor.finish()
