"""Response to an OpenAI-style request with `stream`, which sends rendered and partial images as Server-Sent Events."""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import aclosing, closing
from typing import Any

from aiohttp import web

from codec_http.body_encoder import BodyCompressor
from codec_http.encoding import choose_encoding
from codec_http.errors import error_detail
from codec_http.image_events import (
    CompletedImageEvent,
    ImageEvents,
    PartialImageEvent,
    encode_error_event,
    encode_image_event,
)
from codec_http.rendered_file import FileEncoder
from codec_http.request_models import RenderedImagesBody
from codec_http.response_headers import generation_headers, start_response
from codec_http.state import REQUEST_TIMEOUT_S, SERVICE
from codec_http.write_deadline import WriteDeadline
from codec_wire.errors import CodecError
from codec_wire.events import Started
from codec_wire.server_sent_events import EVENT_STREAM
from core.engine import Job, PixelPreview, Pixels
from core.plan import StreamPlan


async def stream_images(
    request: web.Request, body: RenderedImagesBody, plans: Sequence[StreamPlan]
) -> web.StreamResponse:
    """Generate one image for each plan in `plans`, and send the images in the form that the request `body` selects.

    Each event is written as soon as the event is available. If an error occurs after the sampling of the first image
    has started, the error is sent as the last event. Raises a CodecError if the first image fails before it is sampled.
    """
    service = request.app[SERVICE]
    encoding = choose_encoding(request, None)
    response = web.StreamResponse(headers=generation_headers(EVENT_STREAM, plans[0], service, encoding))
    compressor = BodyCompressor(encoding.compressor())
    job = Job(deadline=asyncio.get_running_loop().time() + request.app[REQUEST_TIMEOUT_S])
    files = FileEncoder(service, body, job)
    async with aclosing(service.render(plans, job)) as rendered:
        with closing(WriteDeadline(request, response, job)) as deadline:
            try:
                async for event in _image_events(rendered, plans, files, body.events):
                    with deadline:
                        if not isinstance(event, Started):
                            await response.write(await compressor.compress(encode_image_event(event)))
                        elif not response.prepared:  # all images have the same prompt
                            await start_response(request, response, event)
            except CodecError as error:
                if not response.prepared:
                    raise
                job.record.fail(error)
                with deadline:
                    await response.write(await compressor.compress(encode_error_event(error_detail(error))))
            else:
                job.record.completed = True
            with deadline:
                await response.write_eof(compressor.finish())
    return response


async def _image_events(
    rendered: AsyncIterable[Started | PixelPreview | Pixels],
    plans: Sequence[StreamPlan],
    files: FileEncoder,
    names: ImageEvents,
) -> AsyncIterator[Started | PartialImageEvent | CompletedImageEvent]:
    """Convert the events `rendered` to events of the response.

    `rendered` contains events from LatentService.render. The results in `rendered` are in the order of `plans`.
    """
    remaining = iter(plans)
    plan = plans[0]
    partial_images = 0
    async for event in rendered:
        if isinstance(event, Started):
            plan, partial_images = next(remaining), 0
            yield event
        elif isinstance(event, PixelPreview):
            yield PartialImageEvent(
                type=names.partial,
                b64_json=await files.encode_preview(event.frames, plan),
                partial_image_index=partial_images,
                **_common(plan, files),
            )
            partial_images += 1
        else:
            yield CompletedImageEvent(
                type=names.completed, b64_json=await files.encode(event.frames, plan), **_common(plan, files)
            )


def _common(plan: StreamPlan, files: FileEncoder) -> dict[str, Any]:
    """Return the common fields of partial and completed image events, except the image itself."""
    return {
        "created_at": int(time.time()),
        "output_format": files.body.output_format,
        "size": f"{plan.width}x{plan.height}",
        "seed": plan.seed,
    }
