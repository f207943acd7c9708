"""An engine that waits for the test: overload, order and cancellation without one timed sleep."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import numpy as np
from numpy.typing import NDArray

from codec_wire.encoder import LatentEncoder
from codec_wire.events import Frame, Started, Step
from core.engine import Event, Job, Pixels
from core.plan import StreamPlan


def noise_of(plan: StreamPlan) -> NDArray[np.uint8]:
    """Return the pixels of a rendered plan: the seed's own noise in large blocks, which survives a lossy codec."""
    rng = np.random.default_rng(plan.seed)
    blocks = rng.integers(0, 256, (plan.frames, plan.height // 8, plan.width // 8, 3), dtype=np.uint8)
    return blocks.repeat(8, axis=1).repeat(8, axis=2)


class FakeEngine:
    """Makes zeros, or noise as pixels, one step at a time; each job waits before each step until let go."""

    def __init__(self, *, free_running: bool = False) -> None:
        self.started: list[StreamPlan] = []
        self.finished = 0
        self.closed = 0
        self.fail_with: Exception | None = None
        self._steps = asyncio.Semaphore(0)
        self._free_running = free_running
        self._changed = asyncio.Condition()

    def let_steps_go(self, count: int) -> None:
        """Allow `count` further steps, whichever jobs take them."""
        for _ in range(count):
            self._steps.release()

    async def until_started(self, count: int) -> None:
        """Wait until `count` jobs have started."""
        await self._until(lambda: len(self.started) >= count)

    async def until_closed(self, count: int) -> None:
        """Wait until `count` jobs have ended, in whatever way."""
        await self._until(lambda: self.closed >= count)

    async def _until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(reached)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        """See core.engine.Engine."""
        try:
            self.started.append(plan)
            yield Started(plan.header)
            await self._tell()
            for step in range(plan.steps):
                await self._wait_for_step(job)
                if self.fail_with is not None:
                    raise self.fail_with
                yield Step(step + 1, plan.steps)
            if plan.rendered:
                yield Pixels(noise_of(plan))
            encoder = LatentEncoder(plan.header)
            for seq in range(0 if plan.rendered else plan.frames):
                latent = np.zeros(plan.header.shape)
                yield Frame(encoder.encode(latent, keyframe=plan.is_keyframe(seq), last=seq == plan.frames - 1))
            self.finished += 1
        finally:
            self.closed += 1
            await self._tell()

    async def _wait_for_step(self, job: Job) -> None:
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
