"""A model for replicas that a test stops in a step, and that records its steps, through files in a folder.

The replicas are other processes: the folder is their variable HELD_MODEL_DIR.
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
WAIT_S = 20
"""Time after which a wait in this module fails the test."""


class HeldFiles:
    """The files in `folder`, by which a test and the replicas see each other."""

    def __init__(self, folder: Path) -> None:
        self.hold = folder / "hold"
        """While it exists, HELD_STEP of a replica does not end."""
        self.steps = folder / "steps"
        """A line with the process id for each step."""
        self.idle = folder / "idle"
        """Created in a held step if the replica has no active job any more."""
        self.failure = folder / "failure"
        """What the next step raises: "memory" or "bug"."""

    def processes(self) -> list[int]:
        """Return the process id of each step."""
        return [int(line) for line in self.steps.read_text().split()] if self.steps.exists() else []

    def clear(self) -> None:
        """Delete all files, which lets the replicas run."""
        for path in (self.hold, self.steps, self.idle, self.failure):
            path.unlink(missing_ok=True)

    async def wait_until_held(self, processes: int = 1) -> None:
        """Wait until this number of replicas are in a held step."""
        await wait_until(lambda: self.count_held() >= processes)

    def count_held(self) -> int:
        """Return the number of replicas that have reached a held step."""
        ids = self.processes()
        return sum(ids.count(one) >= HELD_STEP for one in set(ids))

    async def wait_until_idle(self) -> None:
        """Wait until the job of a held replica is no longer active there."""
        await wait_until(self.idle.exists)


async def wait_until(condition: Callable[[], bool], seconds: float = WAIT_S) -> None:
    """Wait until `condition` is true; fail after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


class HeldModel(LocalModel):
    """Loads the models of its settings as usual, with a hook before each step of their UNets."""

    async def start_serving(self, service: LatentService, modality: Modality | None = None) -> None:
        """See LocalModel."""
        await super().start_serving(service, modality)
        files = HeldFiles(Path(os.environ[VARIABLE]))

        def before_step(*_arguments: object) -> None:
            with files.steps.open("a") as lines:
                lines.write(f"{os.getpid()}\n")
            if files.failure.exists():
                failure = files.failure.read_text()
                files.failure.unlink()
                raise torch.OutOfMemoryError("no memory") if failure == "memory" else RuntimeError("secret")
            if files.hold.exists() and files.processes().count(os.getpid()) == HELD_STEP:
                end = time.monotonic() + 2 * WAIT_S
                while files.hold.exists() and time.monotonic() < end:
                    if not service._jobs:
                        files.idle.touch()
                    time.sleep(0.01)

        for served in service.models:
            assert isinstance(served.engine, DiffusersEngine)
            served.engine._model.pipeline.unet.register_forward_pre_hook(before_step)
