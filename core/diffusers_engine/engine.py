"""The local engine, which passes plans to the device thread and yields the results as events in the event loop."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any

from torch import Tensor

from codec_pixels.device_thread import DeviceThread
from codec_pixels.fair_queue import ALONE, BatchLimits, Call
from codec_pixels.vae import decodes_frames_separately
from codec_wire.encoder import LatentEncoder
from codec_wire.errors import CodecError, ModelLoadError
from codec_wire.events import Frame, Preview, Started, Step
from codec_wire.first_line import first_line
from core.diffusers_engine.batch import batch_key
from core.diffusers_engine.frame_batches import FrameBatches
from core.diffusers_engine.generation_run import GenerationRun, Result, encode_frame, encode_image, is_small_image
from core.diffusers_engine.input_images import decode_inputs
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.memory_meter import Peak, can_measure, measure_peak
from core.diffusers_engine.rendering import render
from core.diffusers_engine.results import ResultQueue
from core.diffusers_engine.sampler import sample, sample_batch
from core.diffusers_engine.weighted_prompts import check_prompts
from core.engine import Event, Job, PixelPreview, Pixels
from core.memory_model import MemoryModel, PeakMemory
from core.plan import StreamPlan

log = logging.getLogger(__name__)

SHORT_JOB_S = 0.005
"""If the previous generation took less than this number of seconds, the header is sent together with the first
frame."""

# isinstance with a tuple that exists in advance takes less time than with a union that is built for every event.
_EARLY_RESULTS = (Started, Step, Preview, PixelPreview)
_LAST_EVENTS = (Pixels, Frame)


class DiffusersEngine:
    """Engine that runs the pipelines of one model on the device thread.

    Jobs run one at a time, unless `limits` allow batches. In a batch, jobs with the same batch_key are sampled
    together.

    If several clients have queued jobs, the engine serves these clients in turn.

    The device thread sends only a limited number of results for each job. The device thread first sends the event
    Started, and then previews. If `job.reports_steps` is set, the device thread also sends an event Step for each
    sampling step. Finally, the device thread sends latents, pixels, or the frame of a small image. Other threads encode
    latents to frames, but only as fast as the client reads the frames. A slow client neither delays the next job nor
    fills the memory with frames.
    """

    def __init__(self, model: LoadedModel, thread: DeviceThread, limits: BatchLimits = ALONE) -> None:
        self._model = model
        self._thread = thread
        self._limits = limits
        self._decoding = asyncio.Lock()
        self._parsing = asyncio.Lock()
        self._last_duration_s = float("inf")

    @property
    def vae(self) -> Any:
        """The VAE of the pipeline.

        Use the VAE only while no job runs. A VAE that is not offloaded may also be used while a job samples.
        """
        return self._model.pipeline.vae

    @property
    def pipeline_class(self) -> str:
        """Name of the pipeline's diffusers class. The class determines how latents are decoded."""
        return self._model.family.pipeline_class

    async def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        """Yield the events of `plan`: the event Started, then Step events and previews, then Frame events or Pixels.

        See core.engine.Engine.
        """
        results: ResultQueue[Result] = ResultQueue()
        # Before the job is queued, so that a broken image or broken latents are rejected immediately.
        inputs = await self._decoded_inputs(plan)
        if plan.prompt_syntax is not None:
            # One request at a time, because parsing a long prompt can occupy a thread for seconds.
            async with self._parsing:
                await asyncio.to_thread(check_prompts, self._model.variant_for(plan), plan)
        result: Result | None = None
        run = GenerationRun(self._model, plan, job, inputs, results)
        is_batched = self._limits.size > 1 and self._model.variant_for(plan).family.batches
        key = (self, batch_key(plan)) if is_batched else None
        call = Call(self._run, run, key, self._limits, job.memory.peak, run.future)
        client = job.record.client
        job.occupy(self._thread.submit_call(client, call))
        try:
            while isinstance(result := await results.get(), _EARLY_RESULTS):
                if isinstance(result, Started) and not results.is_empty():
                    result = Started(result.header, result.truncations, is_followed=True)
                yield result
            if isinstance(result, CodecError):
                raise result
            if isinstance(result, _LAST_EVENTS):
                yield result
                return
            if is_small_image(plan, result):  # the device thread has left it to the event loop
                yield encode_image(plan, result, job.record)
                return
            with closing(FrameBatches(plan, result, job)) as batches:
                result = None
                while frames := await batches.take():
                    for frame in frames:
                        yield frame
        finally:
            job.abandon()
            self._thread.cancel_call(client, call)
            # An exception holds this frame, which must then hold neither the latents nor the exception itself.
            result = None

    async def _decoded_inputs(self, plan: StreamPlan) -> dict[str, Any]:
        if plan.request_bytes == 0:
            return {}
        # One request at a time, because a decoded image can be large before it is scaled to the size of the plan.
        async with self._decoding:
            return await asyncio.to_thread(decode_inputs, plan)

    def _run(self, runs: Sequence[GenerationRun]) -> None:
        """Run a batch on the device thread. If a generation fails, the last result of the generation is the error."""
        wake = self._last_duration_s > SHORT_JOB_S
        self._sample([run for run in runs if run.start(wake=wake)])

    def _sample(self, runs: Sequence[GenerationRun]) -> None:
        """Sample the started runs `runs`, and let each run send the result of the run.

        If the sampling of several runs fails, each run is repeated alone, so that only runs that cannot be sampled
        alone fail.
        """
        if not runs:
            return
        for run in runs:
            run.member.job.record.batch_size = len(runs)
        try:
            sampled = self._latents(runs)
        except BaseException as error:
            if len(runs) == 1 or not isinstance(error, Exception):
                for run in runs:
                    run.fail(error)
                return
            sampled, remaining = None, [run for run in runs if not run.has_ended()]
            if remaining:
                log.warning("a batch of %d generations failed, so they run one by one: %s", len(runs), error)
        if sampled is None:  # after the `except` block, whose error holds the tensors of the batch
            for run in remaining:
                run.restart_time()
                self._sample([run])
            return
        sampled_at = time.perf_counter()
        for run, latents in zip(runs, sampled, strict=True):
            if latents is not None:
                next_waits = self._thread.has_waiting_calls()
                self._last_duration_s = run.finish(latents, sampled_at, next_waits=next_waits)

    def _latents(self, runs: Sequence[GenerationRun]) -> list[Tensor | None]:
        members = [run.member for run in runs]
        if len(members) > 1:
            return sample_batch(self._model, members)
        (member,) = members
        return [
            sample(self._model, member.plan, member.job, member.on_step, member.inputs, on_preview=member.on_preview)
        ]


def measure_memory(model: LoadedModel, plan: StreamPlan, wide_plan: StreamPlan) -> MemoryModel | None:
    """Run a generation of `plan` as warm-up, and measure the memory that generations need.

    Return a memory model that is fitted to the measured memory of `plan` and of the larger plan `wide_plan`. Return
    None if the memory cannot be measured. Call this function on the device thread. Raises the errors of `warm_up` if
    the generation of `plan` fails.
    """
    if not can_measure(model):
        warm_up(model, plan)
        log.info("the memory of %s is not limited, because compiled modules cannot be measured", model.info.name)
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
            encode_frame(encoder, latent, plan, seq=seq)
        with measure() as decoding:
            if model.info.renders:
                render(model, plan, latents, Job())
        return PeakMemory(sampling.size, decoding.size)
    except ModelLoadError:
        raise
    except Exception as error:
        log.debug("warm-up failed", exc_info=error)
        reason = first_line(error)
        raise ModelLoadError(f"{model.info.name} was loaded but cannot generate: {reason}") from error
