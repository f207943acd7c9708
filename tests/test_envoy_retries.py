"""Envoy in front of servers that load and drain: it repeats what they refuse, after the time that they ask for."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import pytest

from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceStub
from core.admission import Admission
from core.lifecycle import RETRY_AFTER_S, Lifecycle, State
from core.served import ModelInstance
from core.service import LatentService
from tests.support.envoy import addresses_of, configuration, needs_envoy, run_envoy
from tests.support.grpc_requests import request
from tests.support.http_requests import IMAGES, LATENTS
from tests.support.noise_engine import NoiseEngine
from tests.support.noise_server import GENERATION_S
from tests.support.processes import Addresses
from tests.support.serving import MODEL, bundle_of, plain_session, run_servers, run_servers_for

pytestmark = [pytest.mark.slow, needs_envoy]

MAX_JITTER = 1.5
"""Factor by which Envoy may prolong the time that a server asks it to wait."""


async def test_requests_to_a_loading_server_are_retried_after_the_time_that_it_asks_for(tmp_path: Path) -> None:
    service = LatentService(Lifecycle(), Admission(32, 10**12))
    service.models.replace([ModelInstance(MODEL, bundle_of(MODEL), NoiseEngine(), "test device")])
    loop = asyncio.get_running_loop()

    async def over_grpc() -> float:
        started_at = loop.time()
        async with grpc.aio.insecure_channel(envoy.grpc) as channel:
            assert len([message async for message in LatentServiceStub(channel).Generate(request())]) == 2
        return loop.time() - started_at

    async def over_http() -> float:
        started_at = loop.time()
        async with aiohttp.ClientSession() as session, session.post(envoy.http + IMAGES, json=LATENTS) as response:
            assert (response.status, await response.read() != b"") == (200, True)
        return loop.time() - started_at

    async with (
        run_servers_for(service) as servers,
        run_envoy(configuration([addresses_of(servers)]), tmp_path) as envoy,
    ):
        requests = [asyncio.create_task(over_grpc()), asyncio.create_task(over_http())]
        for cluster in ("codec_grpc", "codec_http"):
            await envoy.wait_for(f"cluster.{cluster}.retry.upstream_rq_completed", 1)  # refused
        service.lifecycle.transition_to(State.SERVING)
        for elapsed in await asyncio.gather(*requests):
            print(f"waited {elapsed:.2f} s")
            assert RETRY_AFTER_S <= elapsed < RETRY_AFTER_S * MAX_JITTER + 2


@asynccontextmanager
async def server_process() -> AsyncIterator[tuple[asyncio.subprocess.Process, Addresses]]:
    """Run a server with NoiseEngine as a process."""
    command = (sys.executable, "-m", "tests.support.noise_server")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        ports = dict(item.split("=") for item in (await process.stdout.readline()).decode().split())
        yield process, Addresses(f"http://{ports['http']}", ports["grpc"])
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_nothing_is_lost_while_one_of_three_servers_drains(tmp_path: Path) -> None:
    total, stop_after, concurrency = 500, 100, 16
    async with (
        server_process() as (drained, first),
        run_servers(NoiseEngine(GENERATION_S)) as second,
        run_servers(NoiseEngine(GENERATION_S)) as third,
        run_envoy(configuration([first, addresses_of(second), addresses_of(third)]), tmp_path) as envoy,
        grpc.aio.insecure_channel(envoy.grpc) as channel,
        plain_session(int(envoy.http.rpartition(":")[2])) as session,
    ):
        stub: Any = LatentServiceStub(channel)
        over_grpc = [message async for message in second.stub.Generate(request())]
        async with second.http.post(IMAGES, json=LATENTS) as response:
            over_http = await response.read()
        completed, places = 0, asyncio.Semaphore(concurrency)

        async def send(number: int) -> None:
            nonlocal completed
            async with places:
                if number % 2:
                    assert [message async for message in stub.Generate(request())] == over_grpc
                else:
                    async with session.post(IMAGES, json=LATENTS) as response:
                        assert (response.status, await response.read()) == (200, over_http)
            completed += 1
            if completed == stop_after:
                drained.send_signal(signal.SIGTERM)

        started_at = asyncio.get_running_loop().time()
        async with asyncio.timeout(60):
            await asyncio.gather(*(send(number) for number in range(total)))
            assert await drained.wait() == 0
        assert completed == total
        elapsed = asyncio.get_running_loop().time() - started_at
        retries = [await envoy.counter(f"cluster.{name}.upstream_rq_retry") for name in ("codec_grpc", "codec_http")]
        print(f"{total} requests in {elapsed:.1f} s, repeated by Envoy: {retries[0]} gRPC, {retries[1]} HTTP")
