"""OpenAI-style requests: images and videos that are rendered on the server and returned in a JSON body."""

import asyncio
import base64
import time
from collections.abc import Mapping
from contextlib import aclosing, closing

import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from codec_http.encoding import Encoding, choose_encoding
from codec_http.request_models import RenderedBody, RenderedImagesBody
from codec_http.response_headers import generation_headers
from codec_http.response_models import RenderedFile, RenderedResponse
from codec_http.state import REQUEST_TIMEOUT_S, SERVICE
from codec_http.write_deadline import WriteDeadline
from codec_pixels.images import BEST_QUALITY, encode_image
from codec_pixels.parameters import file_parameters
from codec_pixels.videos import encode_video
from codec_wire.events import PromptTruncation
from codec_wire.http import GENERATION_MS_HEADER, truncation_headers
from core.engine import Job
from core.plan import StreamPlan
from core.response_parameters import environment_of


async def render(request: web.Request, body: RenderedBody, pinned: str | None) -> web.Response:
    """Generate the `body.n` requested files and send the response.

    All files are one job, which stays active until the client has read the response. `pinned` is the hash of the
    latent-space map that the client holds, or None. Raises a CodecError.
    """
    service = request.app[SERVICE]
    plans = service.plan_rendered(body, body.n)
    service.models.require_map_hash(pinned, plans[0])
    encoding = choose_encoding(request, None)
    map_hash = service.models.for_plan(plans[0]).bundle.hash
    environment = environment_of(service, plans[0])
    job = Job(deadline=asyncio.get_running_loop().time() + request.app[REQUEST_TIMEOUT_S])
    files: list[RenderedFile] = []
    generation_s = 0.0
    truncations: tuple[PromptTruncation, ...] = ()
    async with aclosing(service.render(plans, job)) as rendered:
        for plan in plans:
            pixels = await anext(rendered)
            generation_s += pixels.generation_s
            truncations += pixels.truncations
            files.append(
                await asyncio.to_thread(
                    _encode_file, pixels.frames, plan, body, map_hash=map_hash, environment=environment, job=job
                )
            )
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


def _encode_file(
    pixels: NDArray[np.uint8],
    plan: StreamPlan,
    body: RenderedBody,
    *,
    map_hash: str,
    environment: Mapping[str, str | None],
    job: Job,
) -> RenderedFile:
    """Encode `pixels`, uint8 [frames, height, width, 3] RGB, in the requested file format.

    The video encoder stops if `job` is cancelled.
    """
    parameters = file_parameters(plan.header, map_hash, pixels.shape, plan.file_parameters(), environment)
    if isinstance(body, RenderedImagesBody):
        quality = BEST_QUALITY if body.output_compression is None else body.output_compression
        data = encode_image(pixels[0], body.output_format, parameters, quality)
    else:
        data = encode_video(pixels, plan.header.fps or 1, parameters, lambda writer: job.on_cancel(writer.kill))
    return RenderedFile(b64_json=base64.b64encode(data).decode(), seed=plan.seed)


def _encode_response(files: list[RenderedFile], plan: StreamPlan, body: RenderedBody, encoding: Encoding) -> bytes:
    """Return the compressed JSON body."""
    response = RenderedResponse(
        created=int(time.time()),
        data=files,
        output_format=body.output_format,
        size=f"{plan.width}x{plan.height}",
    )
    compressor = encoding.compressor()
    return compressor.compress(response.model_dump_json().encode()) + compressor.finish()
