"""A model that a test stops in a step, and that records its steps, through files in a folder.

The model may be in another process: the folder is the variable HELD_MODEL_DIR of its process.
"""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

from codec_server.local_model import LocalModel
from codec_wire.latents import Modality
from core.diffusers_engine.engine import DiffusersEngine
from core.service import LatentService

VARIABLE = "HELD_MODEL_DIR"
LOADER = f"{__name__}:HeldModel"
HELD_STEP = 3
WAIT_S = 60
"""Time after which a wait in this module fails the test."""
FAILURES: dict[str, Callable[[], BaseException]] = {
    "memory": lambda: torch.OutOfMemoryError("no memory"),
    "allocator": lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    "bug": lambda: RuntimeError("secret"),
    "exit": lambda: SystemExit(3),
}
"""What a step can raise, by the content of the file `failure`."""


class HeldFiles:
    """The files in `folder`, by which a test and the processes of models see each other."""

    def __init__(self, folder: Path) -> None:
        self.hold = folder / "hold"
        """While it exists, HELD_STEP of a process does not end."""
        self.steps = folder / "steps"
        """A line with the process id for each step."""
        self.idle = folder / "idle"
        """Created in a held step if the process has no active job any more."""
        self.failure = folder / "failure"
        """What the next step raises: a key of FAILURES."""

    def processes(self) -> list[int]:
        """Return the process id of each step."""
        return [int(line) for line in self.steps.read_text().split()] if self.steps.exists() else []

    def clear(self) -> None:
        """Delete all files, which lets the models run."""
        for path in (self.hold, self.steps, self.idle, self.failure):
            path.unlink(missing_ok=True)

    async def wait_until_held(self, processes: int = 1) -> None:
        """Wait until this number of processes are in a held step."""
        await wait_until(lambda: self.count_held() >= processes)

    def count_held(self) -> int:
        """Return the number of processes that have reached a held step."""
        ids = self.processes()
        return sum(ids.count(one) >= HELD_STEP for one in set(ids))

    async def wait_until_idle(self) -> None:
        """Wait until the job of a held process is no longer active there."""
        await wait_until(self.idle.exists)


async def wait_until(condition: Callable[[], bool], seconds: float = WAIT_S) -> None:
    """Wait until `condition` is true; fail after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


class HeldModel(LocalModel):
    """Loads the models of its settings as usual, with a hook before each step of their UNets."""

    async def load(self, service: LatentService, modality: Modality | None = None) -> None:
        """See LocalModel."""
        await super().load(service, modality)
        self.served = service
        """The service that the models run jobs of. A test in this process replaces it."""
        files = HeldFiles(Path(os.environ[VARIABLE]))

        def before_step(*_arguments: object) -> None:
            with files.steps.open("a") as lines:
                lines.write(f"{os.getpid()}\n")
            if files.failure.exists():
                failure = files.failure.read_text()
                files.failure.unlink()
                raise FAILURES[failure]()
            if files.hold.exists() and files.processes().count(os.getpid()) == HELD_STEP:
                end = time.monotonic() + 5 * WAIT_S
                while files.hold.exists() and time.monotonic() < end:
                    if not self.served._jobs:
                        files.idle.touch()
                    time.sleep(0.01)

        for served in service.models:
            assert isinstance(served.engine, DiffusersEngine)
            served.engine._model.pipeline.unet.register_forward_pre_hook(before_step)
