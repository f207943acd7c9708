"""Cancellation of a 30-step job on a real sampler: once the client has gone in step 3, step 4 never runs.

Covers closed HTTP connections (latents, pixels, and through the gateway), cancelled gRPC calls, client deadlines, and
jobs that are cancelled while they wait for the device thread.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest
from grpc import StatusCode

from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from tests.support.grpc_requests import request
from tests.support.held_sampler import (
    HELD_STEP,
    HeldSampler,
    hold_sampler,
    wait_for_device_thread,
    wait_until_cancelled,
    wait_until_no_jobs,
)
from tests.support.http_requests import IMAGES, LATENTS
from tests.support.serving import Servers, run_http_gateway, run_servers

BODY = LATENTS | {"steps": 30}
STEPS = BODY["steps"]
CLIENT_TIMEOUT_S = 1.5
"""Long enough to reach the held step on a busy machine."""


async def close_http_stream(http: Any, sampler: HeldSampler) -> None:
    response = await http.post(IMAGES, json=BODY)
    await sampler.reached.wait()
    response.close()


async def disconnect_from_http(servers: Servers, sampler: HeldSampler) -> None:
    await close_http_stream(servers.http, sampler)


async def disconnect_while_waiting_for_pixels(servers: Servers, sampler: HeldSampler) -> None:
    body = {name: value for name, value in BODY.items() if name != "stream_format"} | {"n": 2}
    response = asyncio.create_task(servers.http.post(IMAGES, json=body))
    await sampler.reached.wait()
    response.cancel()


async def disconnect_from_gateway(servers: Servers, sampler: HeldSampler) -> None:
    async with run_http_gateway(servers.grpc_address) as (_, http):
        await close_http_stream(http, sampler)
        await wait_until_cancelled(servers)


async def cancel_grpc_call(servers: Servers, sampler: HeldSampler) -> None:
    call = servers.stub.Generate(request(steps=STEPS))
    await call.read()
    await sampler.reached.wait()
    call.cancel()


async def exceed_grpc_deadline(servers: Servers, sampler: HeldSampler) -> None:
    call = servers.stub.Generate(request(steps=STEPS), timeout=CLIENT_TIMEOUT_S)
    await call.read()
    await sampler.reached.wait()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while await call.read() is not grpc.aio.EOF:
            pass
    assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED


@asynccontextmanager
async def next_requests_succeed(servers: Servers) -> AsyncIterator[None]:
    """On exit, check that both protocols still serve and that no job stays active."""
    yield
    response = await servers.http.post(IMAGES, json=LATENTS)
    assert response.status == 200
    assert b"finish_reason\xa2ok" in await response.read()
    messages = [message async for message in servers.stub.Generate(request(steps=STEPS))]
    assert messages[-1].frame.finish_reason == "ok"
    await wait_until_no_jobs(servers)


@pytest.mark.slow
@pytest.mark.parametrize(
    "stop",
    [
        disconnect_from_http,
        disconnect_while_waiting_for_pixels,
        disconnect_from_gateway,
        cancel_grpc_call,
        exceed_grpc_deadline,
    ],
)
async def test_cancelled_job_takes_no_further_step(
    stop: Callable[[Servers, HeldSampler], Any], engine: DiffusersEngine, tiny_model: LoadedModel
) -> None:
    async with run_servers(engine, tiny_model.info) as servers, next_requests_succeed(servers):
        with hold_sampler(tiny_model) as sampler:
            await stop(servers, sampler)
            # The job is active while the device is busy with its step, although nothing waits for it any more.
            await wait_until_cancelled(servers)
            assert servers.service.admission.jobs == 1
            sampler.release()
            await wait_until_no_jobs(servers)
            await wait_for_device_thread(engine)
            assert sampler.steps == HELD_STEP


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["http", "grpc"])
async def test_job_cancelled_while_queued_for_the_device_takes_no_step(
    protocol: str, engine: DiffusersEngine, tiny_model: LoadedModel
) -> None:
    async with run_servers(engine, tiny_model.info) as servers, next_requests_succeed(servers):
        admission = servers.service.admission
        with hold_sampler(tiny_model) as sampler:
            running = servers.stub.Generate(request(steps=STEPS))
            await sampler.reached.wait()
            assert admission.jobs == 1
            queued: asyncio.Task[Any]
            if protocol == "http":
                queued = asyncio.create_task(servers.http.post(IMAGES, json=BODY))
            else:
                call = servers.stub.Generate(request(steps=STEPS))
                queued = asyncio.create_task(call.read())
            await wait_until(lambda: admission.jobs == 2)
            queued.cancel()
            await asyncio.gather(queued, return_exceptions=True)
            if protocol == "grpc":
                call.cancel()
            await wait_until(lambda: len(servers.service._jobs) == 1)
            running.cancel()
            await wait_until_cancelled(servers)
            sampler.release()
            await wait_until_no_jobs(servers)
            await wait_for_device_thread(engine)
            assert sampler.steps == HELD_STEP
