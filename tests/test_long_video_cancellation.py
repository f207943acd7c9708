"""A long video whose client disconnects: the device stops inside the step, the frame or the file."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from codec_pixels.device import Device
from codec_pixels.device_thread import DeviceThread
from codec_pixels.videos import encode_video
from codec_wire.errors import Cancelled
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from core.engine import Job
from tests.support.factories import load_from_factory
from tests.support.held_sampler import wait_until_cancelled, wait_until_no_jobs
from tests.support.serving import run_servers

pytestmark = pytest.mark.slow

WAIT_S = 20
BODY = {"prompt": "a sea", "size": "64x64", "steps": 2, "frames": 240}
HELD_CALL = 5


@pytest.fixture(scope="module")
def model(device: Device) -> LoadedModel:
    return load_from_factory("tests.support.families.videos:build_animatediff", device)


class HeldModule:
    """A hook that counts the calls of the modules that `name` describes, and blocks one call until `release`."""

    def __init__(self, name: str) -> None:
        self.calls = 0
        self.reached = asyncio.Event()
        self._name = name
        self._released = threading.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, module: nn.Module, _arguments: object) -> None:
        """Run on the device thread, before every module."""
        if type(module).__name__ != self._name:
            return
        self.calls += 1
        if self.calls == HELD_CALL and not self._released.is_set():
            self._loop.call_soon_threadsafe(self.reached.set)
            assert self._released.wait(WAIT_S)

    def release(self) -> None:
        """Continue the blocked call."""
        self._released.set()


@contextmanager
def hold(module_class: str) -> Iterator[HeldModule]:
    """Install a HeldModule for all modules of a class; on exit, release and remove it."""
    held = HeldModule(module_class)
    hook = register_module_forward_pre_hook(held)
    try:
        yield held
    finally:
        held.release()
        hook.remove()


@pytest.mark.parametrize(
    ("module_class", "fields"),
    [("Attention", {"stream_format": "msgpack"}), ("UpDecoderBlock2D", {"frames": 40, "steps": 1})],
    ids=["attention windows", "decoded frames"],
)
async def test_device_stops_within_one_block_after_the_client_of_a_long_video_disconnects(
    module_class: str, fields: dict[str, Any], model: LoadedModel, device_thread: DeviceThread
) -> None:
    async with run_servers(DiffusersEngine(model, device_thread), model.info) as servers:
        with hold(module_class) as held:
            request = asyncio.create_task(servers.http.post("/v1/videos/generations", json=BODY | fields))
            await asyncio.wait_for(held.reached.wait(), WAIT_S)
            response = (await request) if "stream_format" in fields else None
            request.cancel()
            if response is not None:
                response.close()
            await wait_until_cancelled(servers)
            assert servers.service.admission.jobs == 1  # the device is busy
            held.release()
            await wait_until_no_jobs(servers)
            assert held.calls <= HELD_CALL + 2


def test_video_encoder_stops_when_its_job_is_cancelled() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (240, 256, 256, 3), dtype=np.uint8)
    job = Job()
    timer = threading.Timer(0.3, job.cancel, [Cancelled("the client disconnected")])
    timer.start()
    started = time.monotonic()
    with pytest.raises(OSError, match="the video encoder failed"):
        encode_video(pixels, 25, {}, lambda writer: job.on_cancel(writer.kill))
    assert time.monotonic() - started < 1
    timer.join()
