"""Generation of the files of a video job: a latent stream, and an MP4 file that is decoded from the latent stream."""

import asyncio
import importlib.util
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import BinaryIO

import numpy as np

from codec_pixels.parameters import Parameters, file_parameters
from codec_pixels.videos import VideoWriter
from codec_wire import StreamReader, WireFormat, encode
from codec_wire.errors import OutOfStorage, TruncatedStream
from codec_wire.events import Frame, Started, Step
from codec_wire.latents import LatentFrame, LatentStreamHeader
from codec_wire.request import GenerationRequest
from core.deadline import before_deadline
from core.decode_plan import DecodePlan, DecodeRequest, plan_decode
from core.engine import Event, Job
from core.pixel_format import PixelFormat
from core.plan import RENDERING_STEPS, StreamPlan, plan
from core.rendered_plan import require_proven_pixels, require_renderable
from core.response_parameters import environment_of
from core.served import ModelInstance
from core.service import LatentService
from core.video_jobs.files import JobFiles, replace_flushed, temporary_path

_BYTES_PER_FRAME = 512
"""Upper limit of the bytes that a frame in a file needs in addition to the latents or pixels of the frame."""
_BYTES_PER_FILE = 64 * 1024
"""Upper limit of the bytes of a stream header, or of the tables of a short MP4 file."""


def plan_video(service: LatentService, request: GenerationRequest) -> StreamPlan:
    """Return the plan for the latents of a video that is also decoded to an MP4 file.

    Raises the errors of ServedModels.for_request, core.plan.plan and core.rendered_plan.plan_rendered. Raises TooLarge
    if the video alone exceeds the limit on the cost of active jobs.
    """
    served = service.models.for_request(request)
    planned = plan(request, served.bundle, served.model)
    require_proven_pixels(served.model)
    served.require_vae()
    require_renderable(planned)
    service.admission.require_possible(_whole(planned).cost)
    return planned


def max_result_bytes(planned: StreamPlan) -> int:
    """Return the maximum total size in bytes of the files that a job with the plan `planned` stores."""
    header = planned.header
    latent_bytes = int(np.prod(header.shape)) * header.dtype.numpy.itemsize
    # H.264 stores a block that it cannot compress as 4:2:0 pixels, which have 12 bits.
    pixel_bytes = planned.width * planned.height * 3 // 2
    text_bytes = 6 * (len(planned.prompt) + len(planned.negative_prompt or ""))  # of the parameters in the file
    return (
        planned.latent_frames * (latent_bytes + _BYTES_PER_FRAME)
        + planned.num_frames * (pixel_bytes + _BYTES_PER_FRAME)
        + 2 * _BYTES_PER_FILE
        + text_bytes
    )


async def generate_video(
    service: LatentService, planned: StreamPlan, job: Job, files: JobFiles, on_progress: Callable[[int], None]
) -> None:
    """Write the latent stream and the MP4 file of `planned` to `files`, as one active job.

    If an interrupted run of the job has stored a complete latent stream, the stream is only decoded. `on_progress` is
    called with the progress in percent. Raises the errors of LatentService.active, of the engine and of the VAE engine.
    """
    served = service.models.for_plan(planned)
    engine, whole = served.require_engine(), _whole(planned)
    with service.active(job, whole.cost, planned.request_bytes, served.memory_of(whole)):
        if not files.latents.exists():
            started_at = time.monotonic()
            # An engine cancels its job at the end of a generation, and the latents are still to be decoded.
            part = job.part()
            await _write_latents(engine.generate(planned, part), part, files, on_progress)
            service.admission.record_duration(planned.cost, time.monotonic() - started_at)
        if job.reason is not None:  # cancelled after the sampling
            raise job.reason
        try:
            await _write_video(service, served, planned, job, files)
        except OSError:  # of the encoder, which is killed when the job is cancelled
            if job.reason is not None:
                raise job.reason from None
            raise


def _whole(planned: StreamPlan) -> StreamPlan:
    """Return a copy of `planned` whose cost and memory include both sampling and decoding."""
    return replace(planned, rendered=True)


async def _write_latents(
    generated: AsyncGenerator[Event, None], job: Job, files: JobFiles, on_progress: Callable[[int], None]
) -> None:
    temporary = temporary_path(files.latents)
    done = False
    try:
        with temporary.open("wb") as file:
            async with aclosing(generated) as events:
                while (event := await before_deadline(anext(events, None), job)) is not None:
                    if isinstance(event, Started):
                        await _write(file, event.header)
                    elif isinstance(event, Step):
                        on_progress(100 * event.index // (event.total + RENDERING_STEPS))
                    elif isinstance(event, Frame):
                        await _write(file, event.frame)
                        done = event.frame.done
        if not done:
            raise TruncatedStream("the engine ended the stream without a last frame")
        await asyncio.to_thread(replace_flushed, temporary, files.latents)
    except OSError as error:
        raise OutOfStorage(f"the latents of the video cannot be stored: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)


async def _write(file: BinaryIO, message: LatentStreamHeader | LatentFrame) -> None:
    await asyncio.to_thread(file.write, encode(message, WireFormat.MSGPACK))


async def _write_video(
    service: LatentService, served: ModelInstance, planned: StreamPlan, job: Job, files: JobFiles
) -> None:
    """Decode the stored latent stream, and write the MP4 file.

    If this process has an MP4 encoder, the MP4 file contains the parameters of the request. In a process without an MP4
    encoder, such as a gateway, the VAE engine encodes the MP4 file. An MP4 file that the VAE engine encodes contains
    only the parameters of the latents.
    """
    header, frames = await asyncio.to_thread(_read_latents, files)
    encodes = importlib.util.find_spec("imageio_ffmpeg") is not None
    wanted = DecodeRequest((), (PixelFormat.RGB if encodes else PixelFormat.MP4,))
    decoding = plan_decode(wanted, header, served.bundle.hash, served.model)
    parts = served.require_vae().decode(decoding, frames, job.part())
    if not encodes:
        await _store_chunks(parts, job, files)
        return
    shape = (decoding.num_frames, decoding.height, decoding.width, 3)
    request, environment = planned.file_parameters(), environment_of(served, service.provenance)
    parameters = file_parameters(planned.header, served.bundle.hash, shape, request, environment)
    await _encode_frames(parts, decoding, parameters, job, files)


def _read_latents(files: JobFiles) -> tuple[LatentStreamHeader, list[LatentFrame]]:
    reader = StreamReader(WireFormat.MSGPACK)
    header, *frames = reader.feed(files.latents.read_bytes())
    reader.close()
    assert isinstance(header, LatentStreamHeader)  # noqa: S101 - the reader checks the order
    return header, [frame for frame in frames if isinstance(frame, LatentFrame)]


async def _encode_frames(
    parts: AsyncGenerator[bytes, None], decoding: DecodePlan, parameters: Parameters, job: Job, files: JobFiles
) -> None:
    with VideoWriter(decoding.width, decoding.height, decoding.header.fps or 1, parameters) as writer:
        job.on_cancel(writer.kill)
        async with aclosing(parts):
            while (part := await before_deadline(anext(parts, None), job)) is not None:
                await asyncio.to_thread(writer.write, np.frombuffer(part, np.uint8))
        path = await asyncio.to_thread(writer.finish)
        try:
            await asyncio.to_thread(files.store_video, path)
        except OSError as error:
            raise OutOfStorage(f"the video cannot be stored: {error.strerror}") from None


async def _store_chunks(parts: AsyncGenerator[bytes, None], job: Job, files: JobFiles) -> None:
    temporary = temporary_path(files.video)
    try:
        with temporary.open("wb") as file:
            async with aclosing(parts):
                while (part := await before_deadline(anext(parts, None), job)) is not None:
                    await asyncio.to_thread(file.write, part)
        await asyncio.to_thread(replace_flushed, temporary, files.video)
    except OSError as error:
        raise OutOfStorage(f"the video cannot be stored: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
