"""Handling of OpenAI-style requests, for which the server returns rendered images or videos in a JSON body."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing, closing

from aiohttp import web

from codec_http.encoding import Encoding, choose_encoding
from codec_http.image_stream import stream_images
from codec_http.rendered_file import FileEncoder
from codec_http.request_models import RenderedBody, RenderedImagesBody
from codec_http.response_headers import generation_headers
from codec_http.response_models import RenderedFile, RenderedResponse
from codec_http.state import REQUEST_TIMEOUT_S, SERVICE
from codec_http.write_deadline import WriteDeadline
from codec_wire.events import PromptTruncation, Started
from codec_wire.http import GENERATION_MS_HEADER, truncation_headers
from core.engine import Job, Pixels
from core.plan import StreamPlan


async def render(request: web.Request, body: RenderedBody, pinned: str | None) -> web.StreamResponse:
    """Generate the number of files that `body.n` requests, and send the response.

    `pinned` is the hash of the latent-space map that the client requires, or None if the client requires no map. Raises
    a CodecError if the request cannot be served or fails before the response starts.
    """
    service = request.app[SERVICE]
    partial_images = body.partial_images if isinstance(body, RenderedImagesBody) else 0
    plans = service.plan_rendered(body, body.n, partial_images)
    service.models.for_plan(plans[0]).require_map_hash(pinned)
    if isinstance(body, RenderedImagesBody) and body.stream:
        return await stream_images(request, body, plans)
    return await _send_files(request, body, plans)


async def _send_files(request: web.Request, body: RenderedBody, plans: Sequence[StreamPlan]) -> web.Response:
    """Generate one file with each of `plans`, and send all files in one response.

    All plans run as one job. The job stays active until the client has read the response.
    """
    service = request.app[SERVICE]
    encoding = choose_encoding(request, None)
    job = Job(deadline=asyncio.get_running_loop().time() + request.app[REQUEST_TIMEOUT_S])
    encoder = FileEncoder(service, body, job)
    files: list[RenderedFile] = []
    generation_s = 0.0
    truncations: tuple[PromptTruncation, ...] = ()
    async with aclosing(service.render(plans, job)) as rendered:
        async for event in rendered:
            if isinstance(event, Started):
                truncations += event.truncations
            elif isinstance(event, Pixels):
                plan = plans[len(files)]
                generation_s += event.generation_s
                files.append(RenderedFile(b64_json=await encoder.encode(event.frames, plan), seed=plan.seed))
                if len(files) == len(plans):
                    break  # the job would end with the iterator
        response = web.Response(
            body=await asyncio.to_thread(_encode_response, files, plans[0], body, encoding),
            headers=generation_headers("application/json", plans[0], service, encoding)
            | {GENERATION_MS_HEADER: f"{generation_s * 1000:.1f}"}
            | truncation_headers(truncations),
        )
        with closing(WriteDeadline(request, response, job)) as deadline, deadline:
            await response.prepare(request)
            await response.write_eof()
    return response


def _encode_response(files: list[RenderedFile], plan: StreamPlan, body: RenderedBody, encoding: Encoding) -> bytes:
    """Return the JSON body of the response with `files`, compressed with `encoding`."""
    response = RenderedResponse(
        created=int(time.time()),
        data=files,
        output_format=body.output_format,
        size=f"{plan.width}x{plan.height}",
    )
    compressor = encoding.compressor()
    return compressor.compress(response.model_dump_json().encode()) + compressor.finish()
