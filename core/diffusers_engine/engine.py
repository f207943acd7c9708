"""The local engine: hands plans to the device thread and its results, as events, to the event loop."""

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
from core.diffusers_engine.input_images import decoded_pictures
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.rendering import render
from core.diffusers_engine.sampler import memory_guard, sample, stop_if_cancelled
from core.engine import Event, Job, Pixels, client_disconnected
from core.plan import StreamPlan

log = logging.getLogger(__name__)

_Posted = Started | Step | Tensor | Pixels | CodecError


class DiffusersEngine:
    """Runs one pipeline. Jobs sample one at a time, in the order they came, on the thread that owns it.

    What crosses from that thread is bounded by the plan: an event for the start, one a step, and the latents. Frames
    are made of the latents only as fast as the reader takes them, off the device thread, so that a slow reader holds
    its own stream and neither memory nor the next job.
    """

    def __init__(self, model: LoadedModel, thread: ThreadPoolExecutor) -> None:
        self._model = model
        self._thread = thread
        self._decoding = asyncio.Lock()

    @property
    def vae(self) -> Any:
        """The pipeline's VAE. Only for use while nothing samples."""
        return self._model.pipeline.vae

    async def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        """Yield Started, a Step for each step, and every Frame or the Pixels of `plan`. See core.engine.Engine."""
        loop = asyncio.get_running_loop()
        posted: asyncio.Queue[_Posted] = asyncio.Queue()
        # Before the job waits for the device, so that a broken picture is refused at once. One at a time: decoded it
        # may be large, what is kept of it is not.
        async with self._decoding:
            pictures = await asyncio.to_thread(decoded_pictures, plan)
        item: _Posted | None

        def post(item: _Posted) -> None:
            # The loop is closed when the process ends in mid-generation: nobody is left to tell.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(posted.put_nowait, item)

        def work() -> None:
            try:
                stop_if_cancelled(job)
                post(Started(plan.header))
                latents = sample(self._model, plan, job, lambda done, total: post(Step(done, total)), pictures)
                post(render(self._model, plan, latents, job) if plan.rendered else latents)
            except CodecError as error:
                post(without_traceback(error))
            except BaseException:  # whatever it is, somebody waits for an answer
                log.exception("a generation failed")
                post(CodecError(INTERNAL_TEXT))

        handed_in = self._thread.submit(work)
        try:
            while not isinstance(item := await posted.get(), Tensor):
                if isinstance(item, CodecError):
                    raise item
                yield item
                if isinstance(item, Pixels):
                    return
            encoder = LatentEncoder(plan.header)
            for seq in range(plan.frames):
                stop_if_cancelled(job)
                last = seq == plan.frames - 1
                frame = await asyncio.to_thread(
                    _encode, encoder, item[seq], plan, keyframe=plan.is_keyframe(seq), last=last
                )
                yield Frame(frame)
        finally:
            job.cancel(client_disconnected())
            handed_in.cancel()
            item = None  # an error that passes here holds this frame: it must not hold the latents, nor itself


def _encode(encoder: LatentEncoder, latent: Tensor, plan: StreamPlan, *, keyframe: bool, last: bool) -> LatentFrame:
    with memory_guard(plan):
        return encoder.encode(latent, keyframe=keyframe, last=last)


def warm_up(model: LoadedModel, plan: StreamPlan) -> None:
    """Run `plan` for real, on the device thread, before the first client does.

    Raises ModelLoadError when the model cannot do what it is loaded for.
    """
    try:
        latents = sample(model, plan, Job(), lambda _done, _total: None)
        encoder = LatentEncoder(plan.header)
        for seq, latent in enumerate(latents):
            encoder.encode(latent, keyframe=plan.is_keyframe(seq), last=seq == plan.frames - 1)
        if model.info.renders:
            render(model, plan, latents, Job())
    except ModelLoadError:
        raise
    except Exception as error:
        log.debug("the warm-up failed", exc_info=error)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelLoadError(f"{model.info.name} is loaded but cannot generate: {reason}") from error
