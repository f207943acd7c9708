"""The local engine: passes plans to the device thread and yields its results as events on the event loop."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from torch import Tensor

from codec_wire.encoder import LatentEncoder
from codec_wire.errors import INTERNAL_TEXT, CodecError, ModelLoadError, without_traceback
from codec_wire.events import Frame, Started, Step
from codec_wire.latents import LatentFrame
from core.diffusers_engine.input_images import decode_input_images
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.prompt_truncation import prompt_truncations
from core.diffusers_engine.rendering import render
from core.diffusers_engine.sampler import memory_guard, sample, stop_if_cancelled
from core.engine import Event, Job, Pixels, client_disconnected
from core.plan import StreamPlan

log = logging.getLogger(__name__)

_Result = Started | Step | Tensor | Pixels | CodecError
"""What the device thread sends to the event loop."""


class DiffusersEngine:
    """Runs the pipelines of one model on the device thread, one job at a time and in the order of submission.

    The device thread sends a bounded number of results: Started, one Step per step, and the latents or pixels. Latents
    are encoded to frames on other threads and only as fast as the client reads them, so that a slow client neither
    delays the next job nor fills the memory with frames.
    """

    def __init__(self, model: LoadedModel, thread: ThreadPoolExecutor) -> None:
        self._model = model
        self._thread = thread
        self._decoding = asyncio.Lock()

    @property
    def vae(self) -> Any:
        """The VAE of the pipeline. Use it only while no job is running."""
        return self._model.pipeline.vae

    @property
    def pipeline_class(self) -> str:
        """Name of the diffusers class of the pipeline, which determines how latents are decoded."""
        return self._model.family.pipeline_class

    async def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        """Yield Started, the Steps, and every Frame or the Pixels of `plan`. See core.engine.Engine."""
        loop = asyncio.get_running_loop()
        results: asyncio.Queue[_Result] = asyncio.Queue()
        # Before the job is queued, so that a broken image is rejected immediately. One request at a time, because a
        # decoded image can be large before it is scaled to the size of the plan.
        async with self._decoding:
            images = await asyncio.to_thread(decode_input_images, plan)
        result: _Result | None

        def post(result: _Result) -> None:
            # The event loop is closed if the process exits during a generation.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(results.put_nowait, result)

        def work() -> None:
            try:
                stop_if_cancelled(job)
                post(Started(plan.header, prompt_truncations(self._model.variant_for(plan), plan)))
                latents = sample(self._model, plan, job, lambda done, total: post(Step(done, total)), images)
                post(render(self._model, plan, latents, job) if plan.rendered else latents)
            except CodecError as error:
                post(without_traceback(error))
            except BaseException:  # the event loop waits for a result in any case
                log.exception("generation failed")
                post(CodecError(INTERNAL_TEXT))

        submitted = self._thread.submit(work)
        try:
            while not isinstance(result := await results.get(), Tensor):
                if isinstance(result, CodecError):
                    raise result
                yield result
                if isinstance(result, Pixels):
                    return
            encoder = LatentEncoder(plan.header)
            for seq in range(plan.latent_frames):
                stop_if_cancelled(job)
                last = seq == plan.latent_frames - 1
                frame = await asyncio.to_thread(
                    _encode, encoder, result[seq], plan, keyframe=plan.is_keyframe(seq), last=last
                )
                yield Frame(frame)
        finally:
            job.cancel(client_disconnected())
            submitted.cancel()
            # An exception holds this frame, which must then hold neither the latents nor the exception itself.
            result = None


def _encode(encoder: LatentEncoder, latent: Tensor, plan: StreamPlan, *, keyframe: bool, last: bool) -> LatentFrame:
    with memory_guard(plan):
        return encoder.encode(latent, keyframe=keyframe, last=last)


def warm_up(model: LoadedModel, plan: StreamPlan) -> None:
    """Run a complete generation of `plan`, with encoding and rendering, on the calling (device) thread.

    Raises ModelLoadError if the model cannot generate.
    """
    try:
        latents = sample(model, plan, Job(), lambda _done, _total: None)
        encoder = LatentEncoder(plan.header)
        for seq, latent in enumerate(latents):
            encoder.encode(latent, keyframe=plan.is_keyframe(seq), last=seq == plan.latent_frames - 1)
        if model.info.renders:
            render(model, plan, latents, Job())
    except ModelLoadError:
        raise
    except Exception as error:
        log.debug("warm-up failed", exc_info=error)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelLoadError(f"{model.info.name} was loaded but cannot generate: {reason}") from error
