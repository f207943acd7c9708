"""Clients share the device and the queue: turns, limits for one client over both protocols, and early returns."""

import asyncio
import hashlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import grpc.aio
import pytest
from aiohttp import ClientResponse

from codec_pixels.device_thread import DeviceThread
from core import refusals
from core.api_keys import ApiKeys
from core.refusals import MAX_CLIENTS, Refusals
from tests.support.fake_engine import FakeEngine
from tests.support.grpc_requests import request
from tests.support.http_requests import IMAGES, LATENTS, read_error
from tests.support.serving import Servers, run_servers

KEY, OTHER_KEY = "key-of-alice", "key-of-bob"
MAX_JOBS = 8
JOBS_PER_CLIENT = 7
"""One place in eight is kept for other clients."""


@pytest.fixture
def thread() -> Iterator[DeviceThread]:
    thread = DeviceThread()
    yield thread
    thread.shutdown(cancel_futures=True)


@pytest.fixture
def held(thread: DeviceThread) -> Iterator[threading.Event]:
    """An event for which the device thread waits."""
    released = threading.Event()
    thread.submit(released.wait, 10)
    yield released
    released.set()


@pytest.fixture
def keys(tmp_path: Path) -> ApiKeys:
    digests = {key: hashlib.sha256(key.encode()).hexdigest() for key in (KEY, OTHER_KEY)}
    (tmp_path / "keys").write_text("".join(f"{key} sha256:{digest}\n" for key, digest in digests.items()))
    return ApiKeys(None, tmp_path / "keys")


def test_device_serves_clients_in_turn(thread: DeviceThread, held: threading.Event) -> None:
    order: list[str] = []
    futures = [thread.submit_for("greedy", partial(order.append, f"g{number}")) for number in range(20)]
    futures += [thread.submit_for("polite", partial(order.append, f"p{number}")) for number in range(3)]
    held.set()
    for future in futures:
        future.result(10)
    assert order[:8] == ["g0", "p0", "g1", "p1", "g2", "p2", "g3", "g4"]
    assert len(order) == 23


def test_cancelled_call_does_not_take_the_turn_of_its_client(thread: DeviceThread, held: threading.Event) -> None:
    order: list[str] = []
    cancelled = [thread.submit_for("a", partial(order.append, "cancelled")) for _ in range(2)]
    futures = [thread.submit_for(name, partial(order.append, name)) for name in ("a", "b", "a")]
    assert all(future.cancel() for future in cancelled)
    held.set()
    for future in futures:
        future.result(10)
    assert order == ["a", "b", "a"]


def test_shutdown_cancels_waiting_calls(thread: DeviceThread, held: threading.Event) -> None:
    waiting: Future[None] = thread.submit_for("a", lambda: None)
    held.set()
    blocked = threading.Event()
    thread.submit_for("b", partial(blocked.wait, 10))
    last = thread.submit_for("c", lambda: None)
    waiting.result(10)
    thread.shutdown(wait=False, cancel_futures=True)
    assert last.cancelled()
    blocked.set()


def authorization(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def post(servers: Servers, key: str, body: object = LATENTS) -> ClientResponse:
    return await servers.http.post(IMAGES, json=body, headers=authorization(key))


async def test_one_client_cannot_take_the_places_of_the_others(keys: ApiKeys) -> None:
    async with run_servers(FakeEngine(), max_jobs=MAX_JOBS, api_keys=keys) as servers:
        running = [await post(servers, KEY) for _ in range(JOBS_PER_CLIENT)]
        refused = await post(servers, KEY)
        assert refused.status == 429
        assert int(refused.headers["Retry-After"]) in (1, 2)
        assert "this client has 7 active jobs" in (await read_error(refused))["message"]
        call = servers.stub.Generate(request(), metadata=[("authorization", f"Bearer {KEY}")])
        with pytest.raises(grpc.aio.AioRpcError, match="this client has 7 active jobs"):
            await call.read()
        running.append(await post(servers, OTHER_KEY))
        assert running[-1].status == 200
        for response in running:
            response.close()


async def test_clients_without_keys_are_told_apart_by_address_over_both_protocols() -> None:
    async with run_servers(FakeEngine(), max_jobs=MAX_JOBS) as servers:
        running = [await servers.http.post(IMAGES, json=LATENTS) for _ in range(JOBS_PER_CLIENT)]
        with pytest.raises(grpc.aio.AioRpcError, match="this client has 7 active jobs"):
            await servers.stub.Generate(request()).read()
        for response in running:
            response.close()


async def test_request_is_refused_before_its_body_is_parsed(keys: ApiKeys) -> None:
    async with run_servers(FakeEngine(), max_jobs=1, api_keys=keys) as servers:
        running = await post(servers, KEY)
        assert (await post(servers, OTHER_KEY, {"unknown": True})).status == 429
        running.close()


async def test_client_that_ignores_retry_after_waits_for_its_answer(
    keys: ApiKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "EARLY_DELAY_S", 0.2)
    async with run_servers(FakeEngine(), max_jobs=1, api_keys=keys) as servers:
        running = await post(servers, KEY)
        durations = []
        for key in (OTHER_KEY, OTHER_KEY, KEY):
            started = time.monotonic()
            assert (await post(servers, key)).status == 429
            durations.append(time.monotonic() - started)
        assert durations[1] >= 0.2
        assert durations[2] < 0.2
        running.close()
        await asyncio.wait_for(servers.service.admission.wait_idle(), 10)


def test_number_of_remembered_refusals_is_limited() -> None:
    remembered = Refusals()
    assert remembered.delay_s("first", 100) == 0
    assert remembered.delay_s("first", 100) == refusals.EARLY_DELAY_S
    for number in range(MAX_CLIENTS):
        remembered.delay_s(str(number), 100)
    assert remembered.delay_s("first", 0) == 0
    assert remembered.delay_s("first", 0) == 0  # it may return after 0 s
