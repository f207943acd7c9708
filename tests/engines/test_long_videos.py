"""A video with many frames whose client does not read: no process holds the whole video."""

import os
import re
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from ray import serve

from codec_ray.app import application
from codec_ray.models import RayModels
from codec_wire.events import Frame, Started
from codec_wire.latents import Modality
from core.admission import Admission
from core.engine import Job
from core.lifecycle import Lifecycle
from core.service import LatentService
from core.settings import Settings
from tests.support.held_model import wait_until
from tests.support.noise_model import LOADER, MODEL
from tests.support.service_calls import generate, request_for

pytestmark = pytest.mark.slow

NAME = "long"
FRAMES, SIZE = 200, (2048, 2048)
VIDEO_BYTES = FRAMES * 2 * 4 * (SIZE[0] // 8) * (SIZE[1] // 8)
"""100 MiB."""
FIELDS = {"model": MODEL.name, "modality": Modality.VIDEO, "fps": 8, "pipeline": "raw"}


class Memory:
    """The memory of a process, and the largest amount of private memory that was seen."""

    def __init__(self, process: int) -> None:
        self._process = process
        self._before = self._read("RssAnon")
        self.growth = 0

    def watch(self) -> None:
        """Update the growth of the memory without files and shared memory."""
        self.growth = max(self.growth, self._read("RssAnon") - self._before)

    @property
    def shared(self) -> int:
        """Bytes of shared memory that the process has used: of Ray's object store."""
        return self._read("RssShmem")

    def _read(self, name: str) -> int:
        status = Path(f"/proc/{self._process}/status").read_text()
        return 1024 * int(re.findall(rf"{name}:\s+(\d+) kB", status)[0])


def replica_process() -> int:
    title = f"ray::ServeReplica:{NAME}:".encode()
    commands = Path("/proc").glob("[0-9]*/cmdline")
    (process,) = (path.parent.name for path in commands if path.read_bytes().startswith(title))
    return int(process)


@pytest.fixture
def deployed(cluster: None, empty_dir: Path) -> Iterator[None]:
    settings = Settings(device="cpu", threads=1, models_dir=empty_dir)
    serve.run(application(settings, LOADER), name=NAME, route_prefix=None)
    yield
    serve.delete(NAME)


async def test_slow_client_makes_no_process_hold_the_video(deployed: None) -> None:
    latent_service, models = LatentService(Lifecycle(), Admission(32, 10**12)), RayModels(Settings())
    assert await models.update(latent_service)
    small: dict[str, Any] = {**FIELDS, "frames": 2, "size": (64, 64)}
    # Buffers for frames of this size exist before the measurement; they must not become more for a long video.
    await generate(latent_service, **(small | {"frames": 12, "size": SIZE, "steps": 1}))
    replica, this = Memory(replica_process()), Memory(os.getpid())

    def has_sent_all() -> bool:
        replica.watch()
        this.watch()
        return replica.shared > 0.9 * VIDEO_BYTES  # small parts are sent without the object store

    plan = latent_service.plan(request_for(**FIELDS, frames=FRAMES, size=SIZE, steps=1))
    async with aclosing(latent_service.generate(plan, Job())) as events:
        assert isinstance(await anext(events), Started)
        assert isinstance(await anext(events), Frame)
        received = 0
        # The client does not read. The replica sends the frames to Ray's object store, and has time for others.
        await wait_until(has_sent_all)
        await generate(latent_service, **small)
        async for event in events:
            this.watch()
            assert isinstance(event, Frame)
            received += 1
            assert event.frame.seq == received
    assert received == FRAMES - 1
    assert max(replica.growth, this.growth) < VIDEO_BYTES / 4
