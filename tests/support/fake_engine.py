"""An engine under the test's control: load, order and cancellation are tested without timed sleeps."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import numpy as np
from numpy.typing import NDArray

from codec_wire.encoder import LatentEncoder
from codec_wire.events import Frame, Started, Step
from core.engine import Event, Job, PixelPreview, Pixels
from core.plan import StreamPlan

WAIT_S = 10
"""Time after which a wait for the engine fails the test."""


def noise_frames(plan: StreamPlan) -> NDArray[np.uint8]:
    """Return the pixels that FakeEngine yields for a rendered plan, uint8 [frames, height, width, 3].

    They are random blocks of 8x8 pixels from the plan's seed, which lossy compression preserves.
    """
    rng = np.random.default_rng(plan.seed)
    blocks = rng.integers(0, 256, (plan.num_frames, plan.height // 8, plan.width // 8, 3), dtype=np.uint8)
    return blocks.repeat(8, axis=1).repeat(8, axis=2)


class FakeEngine:
    """An engine that yields latents of zeros, or noise as pixels.

    Each job waits before each step for `release_steps`, unless the engine is `free_running`. If `fail_with` is set,
    the next step of any job raises it.
    """

    def __init__(self, *, free_running: bool = False) -> None:
        self.started: list[StreamPlan] = []
        self.finished = 0
        self.closed = 0
        self.fail_with: Exception | None = None
        self._steps = asyncio.Semaphore(0)
        self._free_running = free_running
        self._changed = asyncio.Condition()

    def release_steps(self, count: int) -> None:
        """Allow `count` further steps, by any job."""
        for _ in range(count):
            self._steps.release()

    async def wait_until_started(self, count: int) -> None:
        """Wait until `count` jobs have started."""
        await self._wait_until(lambda: len(self.started) >= count)

    async def wait_until_ended(self, count: int) -> None:
        """Wait until `count` jobs have finished, failed or been cancelled."""
        await self._wait_until(lambda: self.closed >= count)

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S), self._changed:
            await self._changed.wait_for(condition)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        """See core.engine.Engine."""
        try:
            self.started.append(plan)
            yield Started(plan.header)
            await self._notify()
            for step in range(plan.steps):
                await self._wait_for_step(job)
                if self.fail_with is not None:
                    raise self.fail_with
                yield Step(step + 1, plan.steps)
                if plan.rendered and plan.previews_step(step + 1, plan.steps):
                    yield PixelPreview(noise_frames(plan))
            if plan.rendered:
                yield Pixels(noise_frames(plan))
            encoder = LatentEncoder(plan.header)
            for seq in range(0 if plan.rendered else plan.latent_frames):
                latent = np.zeros(plan.header.shape)
                yield Frame(encoder.encode(latent, keyframe=plan.is_keyframe(seq), last=seq == plan.latent_frames - 1))
            self.finished += 1
        finally:
            self.closed += 1
            await self._notify()

    async def _wait_for_step(self, job: Job) -> None:
        """Wait until a step is released or the job is cancelled; raise the reason if it was cancelled."""
        cancelled = asyncio.Event()
        loop = asyncio.get_running_loop()
        job.on_cancel(lambda: loop.call_soon_threadsafe(cancelled.set))
        if self._free_running:
            return
        step, stop = asyncio.ensure_future(self._steps.acquire()), asyncio.ensure_future(cancelled.wait())
        try:
            await asyncio.wait({step, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            step.cancel()
            stop.cancel()
        if job.reason is not None:
            raise job.reason
