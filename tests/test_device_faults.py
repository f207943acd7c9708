"""A device that hangs, fails every generation or blocks the interpreter: the reported state, and the recovery."""

import asyncio
import contextlib
import ctypes
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from codec_pixels.device import Device
from codec_pixels.device_thread import DeviceThread
from codec_wire.errors import InvalidLatents
from codec_wire.request import GenerationRequest
from core import watchdog
from core.diffusers_engine.engine import DiffusersEngine, warm_up
from core.diffusers_engine.loader import LoadedModel
from core.engine_failures import MAX_CONSECUTIVE_FAILURES, EngineFailures
from core.plan import plan
from core.watchdog import Watchdog
from tests.support.factories import load_from_factory
from tests.support.http_requests import IMAGES
from tests.support.serving import Servers, bundle_of, run_servers

STEP_TIMEOUT_S = 0.4
WAIT_S = 20
REQUEST = {"prompt": "a sea", "stream_format": "msgpack", "steps": 2}
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def model(device: Device) -> LoadedModel:
    return load_from_factory("tests.support.tiny_sd:build_small_pipeline", device)


@asynccontextmanager
async def watched_servers(
    model: LoadedModel, thread: DeviceThread, step_timeout_s: float = STEP_TIMEOUT_S
) -> AsyncIterator[Servers]:
    """Run servers for `model` and a watchdog whose test generations run on its pipeline."""
    test_plan = plan(GenerationRequest(prompt="a sea", steps=2), bundle_of(model.info), model.info)

    async def probe() -> None:
        await asyncio.get_running_loop().run_in_executor(thread, partial(warm_up, model, test_plan))

    async with run_servers(DiffusersEngine(model, thread), model.info) as servers:
        service = servers.service
        seconds = thread.seconds_without_progress
        watching = asyncio.create_task(
            Watchdog(service.lifecycle, service.failures, step_timeout_s, seconds, probe).run()
        )
        try:
            yield servers
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching


@contextmanager
def before_each_step(model: LoadedModel, hook: Callable[..., None]) -> Iterator[None]:
    """Call `hook` on the device thread before each call of the UNet."""
    handle = model.pipeline.unet.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


async def reported(servers: Servers) -> tuple[int, int, str, int]:
    """Return the status of /livez, status and text of /readyz, and the status of the gRPC health service."""
    livez, readyz = await servers.http.get("/livez"), await servers.http.get("/readyz")
    stub: Any = health_pb2_grpc.HealthStub(servers.channel)
    response = await stub.Check(health_pb2.HealthCheckRequest())
    return livez.status, readyz.status, (await readyz.text()).strip(), response.status


async def wait_until_reported(servers: Servers, expected: tuple[int, int, str, int]) -> None:
    async with asyncio.timeout(WAIT_S):
        while await reported(servers) != expected:
            await asyncio.sleep(0.05)


async def generated(servers: Servers) -> bytes:
    response = await servers.http.post(IMAGES, json=REQUEST)
    return await response.read()


@pytest.mark.slow
async def test_hung_step_fails_livez_and_readyz_until_it_continues(
    model: LoadedModel, device_thread: DeviceThread
) -> None:
    released = threading.Event()

    def wait(*_arguments: object) -> None:
        assert released.wait(WAIT_S)

    async with watched_servers(model, device_thread) as servers:
        expected = await generated(servers)
        with before_each_step(model, wait):
            hanging = asyncio.create_task(generated(servers))
            await wait_until_reported(servers, (503, 503, "recovering", NOT_SERVING))
            assert (await servers.http.post(IMAGES, json=REQUEST)).status == 503
            released.set()
            await wait_until_reported(servers, (200, 200, "serving", SERVING))
            assert await hanging == expected
        assert await generated(servers) == expected


@pytest.mark.slow
async def test_server_stops_serving_while_every_generation_fails(
    model: LoadedModel, device_thread: DeviceThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "FIRST_DELAY_S", 0.05)
    monkeypatch.setattr(watchdog, "MAX_DELAY_S", 0.1)

    def fail(*_arguments: object) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    async with watched_servers(model, device_thread, step_timeout_s=1) as servers:
        expected = await generated(servers)
        with before_each_step(model, fail):
            statuses = [(await servers.http.post(IMAGES, json=REQUEST)).status for _ in range(MAX_CONSECUTIVE_FAILURES)]
            await wait_until_reported(servers, (200, 503, "recovering", NOT_SERVING))
            statuses += [
                (await servers.http.post(IMAGES, json=REQUEST)).status for _ in range(20 - MAX_CONSECUTIVE_FAILURES)
            ]
            assert statuses.count(503) == 20 - MAX_CONSECUTIVE_FAILURES
            # A CUDA error that lasts until the process ends must end it.
            await wait_until_reported(servers, (503, 503, "recovering", NOT_SERVING))
        await wait_until_reported(servers, (200, 200, "serving", SERVING))
        assert await generated(servers) == expected


@pytest.mark.slow
async def test_server_survives_a_c_call_that_holds_the_interpreter_for_five_seconds(
    model: LoadedModel, device_thread: DeviceThread
) -> None:
    sleep = ctypes.PyDLL(None).sleep
    async with watched_servers(model, device_thread, step_timeout_s=60) as servers:
        expected = await generated(servers)
        states: list[str] = []
        servers.service.lifecycle.subscribe(states.append)
        durations = iter([5])

        def hold_interpreter(*_arguments: object) -> None:
            sleep(next(durations, 0))

        with before_each_step(model, hold_interpreter):
            blocked = asyncio.create_task(generated(servers))
            slowest_s = 0.0
            while not blocked.done():
                started = time.monotonic()
                assert await reported(servers) == (200, 200, "serving", SERVING)
                slowest_s = max(slowest_s, time.monotonic() - started)
            assert await blocked == expected
        assert 4.5 < slowest_s < WAIT_S  # nothing else ran for 5 s
        assert states == ["serving"]


def test_only_failures_of_the_server_count() -> None:
    failures = EngineFailures()
    failures.record(InvalidLatents("NaN"))
    failures.record(RuntimeError("CUDA error"))
    assert failures.count == 1
    failures.reset()
    assert failures.count == 0
