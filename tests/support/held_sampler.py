"""A real pipeline stopped in its third step, to test what happens when a client disconnects in that moment."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from tests.support.serving import Servers

HELD_STEP = 3
WAIT_S = 10
"""Time after which a wait in this module fails the test."""


class HeldSampler:
    """A hook that counts the UNet's calls and blocks the third until `release` is called."""

    def __init__(self) -> None:
        self.steps = 0
        self.reached = asyncio.Event()
        """Set when the third step has begun."""
        self._released = threading.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, *_arguments: object) -> None:
        """Run on the device thread, before the UNet."""
        self.steps += 1
        if self.steps == HELD_STEP and not self._released.is_set():
            self._loop.call_soon_threadsafe(self.reached.set)
            assert self._released.wait(2 * WAIT_S)

    def release(self) -> None:
        """Let the third step and all later ones run."""
        self._released.set()


@contextmanager
def hold_sampler(model: LoadedModel) -> Iterator[HeldSampler]:
    """Install a HeldSampler in `model`; on exit, release and remove it."""
    sampler = HeldSampler()
    hook = model.pipeline.unet.register_forward_pre_hook(sampler)
    try:
        yield sampler
    finally:
        sampler.release()
        hook.remove()


async def wait_until_cancelled(servers: Servers) -> None:
    """Wait until the server has cancelled every job, although the device may still be busy with one."""
    async with asyncio.timeout(WAIT_S):
        while servers.service._jobs:
            await asyncio.sleep(0.01)


async def wait_until_no_jobs(servers: Servers) -> None:
    """Wait until the server has no active job."""
    await asyncio.wait_for(servers.service.admission.wait_idle(), WAIT_S)


async def wait_for_device_thread(engine: DiffusersEngine) -> None:
    """Wait until the device thread has nothing left to do."""
    await asyncio.wait_for(asyncio.wrap_future(engine._thread.submit(lambda: None)), WAIT_S)
