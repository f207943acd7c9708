"""The local engine, which passes plans to the device thread and yields the results as events in the event loop."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from codec_pixels.device_thread import DeviceThread
from codec_pixels.vae import decodes_frames_separately
from codec_wire.encoder import LatentEncoder
from codec_wire.errors import INTERNAL_TEXT, CodecError, ModelLoadError, without_traceback
from codec_wire.events import Frame, Preview, Started, Step
from codec_wire.latents import LatentFrame
from core.diffusers_engine.checkpoints import stop_if_cancelled
from core.diffusers_engine.input_images import decode_inputs
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.memory_meter import Peak, can_measure, measure_peak
from core.diffusers_engine.previews import preview_events
from core.diffusers_engine.prompt_truncation import prompt_truncations
from core.diffusers_engine.rendering import render, render_preview
from core.diffusers_engine.results import ResultQueue
from core.diffusers_engine.sampler import memory_guard, sample
from core.engine import Event, Job, PixelPreview, Pixels, client_disconnected
from core.memory_model import MemoryModel, PeakMemory
from core.plan import StreamPlan

log = logging.getLogger(__name__)

_Result = Started | Step | Preview | PixelPreview | Frame | Tensor | Pixels | CodecError
"""The results that the device thread sends to the event loop."""

DEVICE_ENCODING_BYTES = 256 * 1024
"""Maximum size in bytes of an image's latents that are encoded on the device thread.

The encoding takes less than a millisecond, about as long as waking another thread.
"""
BATCH_BYTES = 1024 * 1024
"""Size in bytes of the latents that are encoded at once on another thread.

This size limits the encoded frames in memory.
"""
MAX_PREVIEW_BYTES = 4 * 1024 * 1024
"""Maximum size in bytes of the previews that wait for the event loop. Further previews are dropped."""
SHORT_JOB_S = 0.005
"""If the previous generation took less than this time, the header is sent together with the first frame."""


class DiffusersEngine:
    """Engine that runs the pipelines of one model on the device thread, one job at a time.

    The clients are served in turn.

    The number of results that the device thread sends is limited. The device thread first sends Started, then previews
    and, if `job.reports_steps` is set, one Step for each step. Finally, it sends latents, pixels, or the frame of a
    small image. Other threads encode latents to frames, but only as fast as the client reads the frames. Therefore, a
    slow client neither delays the next job nor fills the memory with frames.
    """

    def __init__(self, model: LoadedModel, thread: DeviceThread) -> None:
        self._model = model
        self._thread = thread
        self._decoding = asyncio.Lock()
        self._last_duration_s = float("inf")

    @property
    def vae(self) -> Any:
        """The VAE of the pipeline.

        Use the VAE only while no job runs. A VAE that is not offloaded may also be used while a job samples.
        """
        return self._model.pipeline.vae

    @property
    def pipeline_class(self) -> str:
        """Name of the diffusers class of the pipeline, which determines how latents are decoded."""
        return self._model.family.pipeline_class

    async def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        """Yield the events of `plan`, which are Started, Steps, previews, then Frames or Pixels.

        See core.engine.Engine.
        """
        results: ResultQueue[_Result] = ResultQueue()
        # Before the job is queued, so that a broken image or broken latents are rejected immediately.
        inputs = await self._decoded_inputs(plan)
        result: _Result | None = None
        submitted = self._thread.submit_for(job.record.client, partial(self._run, plan, job, inputs, results))
        job.occupy(submitted)
        try:
            while isinstance(result := await results.get(), Started | Step | Preview | PixelPreview):
                if isinstance(result, Started) and not results.is_empty():
                    result = replace(result, is_followed=True)
                yield result
            # After its last result, the device thread does nothing for this job, but its future may not be done yet.
            # If the job counted as active until then, the next request of its client could be refused.
            job.occupy(None)
            if isinstance(result, CodecError):
                raise result
            if isinstance(result, Pixels | Frame):
                yield result
                return
            for frames in _batches(plan, result):
                stop_if_cancelled(job)
                started_at = time.perf_counter()
                encoded = await asyncio.to_thread(frames)
                job.record.encode_s += time.perf_counter() - started_at
                for frame in encoded:
                    yield frame
        finally:
            job.cancel(client_disconnected())
            submitted.cancel()
            # An exception holds this frame, which must then hold neither the latents nor the exception itself.
            result = None

    async def _decoded_inputs(self, plan: StreamPlan) -> dict[str, Any]:
        if plan.request_bytes == 0:
            return {}
        # One request at a time, because a decoded image can be large before it is scaled to the size of the plan.
        async with self._decoding:
            return await asyncio.to_thread(decode_inputs, plan)

    def _run(self, plan: StreamPlan, job: Job, inputs: dict[str, Any], results: ResultQueue[_Result]) -> None:
        """Run `plan` on the device thread and put its results into `results`.

        If the generation fails, the last result is the error.
        """
        record = job.record

        def report(done: int, total: int) -> None:
            record.steps += 1
            if job.reports_steps:
                results.put(Step(done, total))

        def preview(done: int, total: int, estimate: Tensor) -> None:
            if plan.rendered:
                partial_image = render_preview(self._model, plan, estimate, job)
                if partial_image is not None:
                    results.put(partial_image)
                return
            for event in preview_events(plan, (done, total), estimate):
                # A client that does not read must not fill the memory.
                if len(results) * len(event.frame.data) < MAX_PREVIEW_BYTES:
                    results.put(event)

        try:
            stop_if_cancelled(job)
            started_at = record.record_sampling()
            started = Started(plan.header, prompt_truncations(self._model.variant_for(plan), plan))
            results.put(started, wake=self._last_duration_s > SHORT_JOB_S)
            latents = sample(self._model, plan, job, report, inputs, on_preview=preview)
            sampled_at = time.perf_counter()
            record.sampling_s += sampled_at - started_at
            if plan.rendered:
                results.put(render(self._model, plan, latents, job))
            elif plan.latent_frames == 1 and latents.nbytes <= DEVICE_ENCODING_BYTES:
                frame = _encode(LatentEncoder(plan.header), latents[0], plan, seq=0)
                record.encode_s += time.perf_counter() - sampled_at
                results.put(Frame(frame))
            else:
                results.put(latents)
            self._last_duration_s = time.perf_counter() - started_at
        except CodecError as error:
            results.put(without_traceback(error))
        except BaseException:  # the event loop waits for a result in any case
            log.exception("generation failed")
            results.put(CodecError(INTERNAL_TEXT))


def _batches(plan: StreamPlan, latents: Tensor) -> Iterator[Callable[[], list[Frame]]]:
    """Yield functions that each encode the next BATCH_BYTES of `latents`, [latent_frames, ...], to frames."""
    encoder = LatentEncoder(plan.header)
    size = max(1, BATCH_BYTES // latents[0].nbytes)
    for start in range(0, plan.latent_frames, size):
        yield partial(_encode_batch, encoder, latents, plan, range(start, min(start + size, plan.latent_frames)))


def _encode_batch(encoder: LatentEncoder, latents: Tensor, plan: StreamPlan, batch: range) -> list[Frame]:
    return [Frame(_encode(encoder, latents[seq], plan, seq=seq)) for seq in batch]


def _encode(encoder: LatentEncoder, latent: Tensor, plan: StreamPlan, *, seq: int) -> LatentFrame:
    with memory_guard(plan):
        return encoder.encode(latent, keyframe=plan.is_keyframe(seq), last=seq == plan.latent_frames - 1)


def measure_memory(model: LoadedModel, plan: StreamPlan, wide_plan: StreamPlan) -> MemoryModel | None:
    """Warm up with `plan`. Return a memory model that is fitted to the memory of `plan` and the larger `wide_plan`.

    Return None if the memory cannot be measured. Call this function on the device thread. Raises the errors of
    `warm_up` for `plan`.
    """
    if not can_measure(model):
        warm_up(model, plan)
        log.info("the memory of %s is not limited: compiled modules cannot be measured", model.info.name)
        return None
    peak = warm_up(model, plan)
    try:
        with measure_peak(model.device.torch_device) as wide_peak:
            sample(model, wide_plan, Job(), lambda _done, _total: None)
    except Exception as error:  # the model works, as the warm-up has shown
        log.warning("the memory of %s is not limited, because it was not measured: %s", model.info.name, error)
        return None
    jointly = not decodes_frames_separately(model.variant_for(plan).pipeline.vae)
    return MemoryModel.fit(plan, peak, wide_plan, wide_peak.size, decodes_jointly=jointly)


def warm_up(model: LoadedModel, plan: StreamPlan) -> PeakMemory:
    """Run a complete generation of `plan`, including encoding and rendering. Call this function on the device thread.

    Return the memory that the generation needed. Raises ModelLoadError if the model cannot generate.
    """

    def measure() -> AbstractContextManager[Peak]:
        return measure_peak(model.device.torch_device) if can_measure(model) else nullcontext(Peak())

    try:
        with measure() as sampling:
            latents = sample(model, plan, Job(), lambda _done, _total: None)
        encoder = LatentEncoder(plan.header)
        for seq, latent in enumerate(latents):
            _encode(encoder, latent, plan, seq=seq)
        with measure() as decoding:
            if model.info.renders:
                render(model, plan, latents, Job())
        return PeakMemory(sampling.size, decoding.size)
    except ModelLoadError:
        raise
    except Exception as error:
        log.debug("warm-up failed", exc_info=error)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelLoadError(f"{model.info.name} was loaded but cannot generate: {reason}") from error
