"""Cancellation of a 30-step job: once its client has gone in step 3, step 4 never runs.

Covers closed HTTP connections (latents, pixels, and through the gateway), cancelled gRPC calls, client deadlines, and
jobs that are cancelled while they wait for a device.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc.aio
import pytest
from grpc import StatusCode

from core.service import LatentService
from tests.support.grpc_requests import request
from tests.support.held_model import HELD_STEP, WAIT_S, HeldFiles, wait_until
from tests.support.held_sampler import wait_until_cancelled, wait_until_no_jobs
from tests.support.http_requests import IMAGES, LATENTS
from tests.support.service_calls import generate
from tests.support.serving import Servers, run_http_gateway, run_servers_for

pytestmark = pytest.mark.slow

BODY = LATENTS | {"steps": 30}
STEPS = BODY["steps"]
CLIENT_TIMEOUT_S = 4
"""Long enough to reach the held step on a busy machine."""


async def close_http_stream(http: Any, files: HeldFiles) -> None:
    response = await http.post(IMAGES, json=BODY)
    await files.wait_until_held()
    response.close()


async def disconnect_from_http(servers: Servers, files: HeldFiles) -> None:
    await close_http_stream(servers.http, files)


async def disconnect_while_waiting_for_pixels(servers: Servers, files: HeldFiles) -> None:
    body = {name: value for name, value in BODY.items() if name != "stream_format"} | {"n": 2}
    response = asyncio.create_task(servers.http.post(IMAGES, json=body))
    await files.wait_until_held()
    response.cancel()


async def disconnect_from_gateway(servers: Servers, files: HeldFiles) -> None:
    async with run_http_gateway(servers.grpc_address) as (_, http):
        await close_http_stream(http, files)
        await wait_until_cancelled(servers)


async def cancel_grpc_call(servers: Servers, files: HeldFiles) -> None:
    call = servers.stub.Generate(request(steps=STEPS))
    await call.read()
    await files.wait_until_held()
    call.cancel()


async def exceed_grpc_deadline(servers: Servers, files: HeldFiles) -> None:
    call = servers.stub.Generate(request(steps=STEPS), timeout=CLIENT_TIMEOUT_S)
    await call.read()
    await files.wait_until_held()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while await call.read() is not grpc.aio.EOF:
            pass
    assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED


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
    stop: Callable[[Servers, HeldFiles], Any], service: LatentService, files: HeldFiles
) -> None:
    async with run_servers_for(service) as servers:
        files.hold.touch()
        await stop(servers, files)
        await wait_until_cancelled(servers)
        await files.wait_until_idle()
        files.hold.unlink()
        await wait_until_no_jobs(servers)
        held = files.processes()
        assert len(held) == HELD_STEP
        # When the process that was held runs another job, it has ended the step.
        taken: list[int] = []
        while held[0] not in taken:
            await next_requests_succeed(servers)
            count = len(taken) + 2 * LATENTS["steps"]
            taken = files.processes()[HELD_STEP:]
            assert len(taken) == count
        await wait_until_no_jobs(servers)


async def next_requests_succeed(servers: Servers) -> None:
    """Check that both protocols still serve."""
    async with servers.http.post(IMAGES, json=LATENTS) as response:
        assert response.status == 200
        assert b"finish_reason\xa2ok" in await response.read()
    messages = [message async for message in servers.stub.Generate(request())]
    assert messages[-1].frame.finish_reason == "ok"


async def test_job_cancelled_while_waiting_for_a_device_takes_no_step(
    service: LatentService, devices: int, files: HeldFiles
) -> None:
    async with run_servers_for(service) as servers:
        files.hold.touch()
        running: list[asyncio.Task[object]] = []
        # Ray may send several jobs to one replica, and the waiting jobs must find none that is free.
        async with asyncio.timeout(WAIT_S):
            while files.count_held() < devices:
                running.append(asyncio.create_task(generate(service, steps=4)))
                await asyncio.sleep(0.5)
        calls = [servers.stub.Generate(request(steps=STEPS)) for _ in range(6)]
        waiting: list[asyncio.Task[Any]] = [asyncio.create_task(call.read()) for call in calls]
        waiting += [asyncio.create_task(servers.http.post(IMAGES, json=BODY)) for _ in range(6)]
        await wait_until(lambda: service.admission.jobs == len(running) + len(waiting))
        for one in (*calls, *waiting):
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await wait_until(lambda: len(service._jobs) == len(running))
        files.hold.unlink()
        await asyncio.gather(*running)
        await wait_until_no_jobs(servers)
        assert len(files.processes()) == 4 * len(running)
        await next_requests_succeed(servers)
