"""A 30-step job on the real sampler, left in its third step in each way there is: no fourth step is taken."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc.aio
import pytest
from grpc import StatusCode

from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from tests.support.serving import Servers, run_http_gateway, run_servers

JSON = {"prompt": "a sea", "stream_format": "msgpack", "size": "64x64", "steps": 30}
LEFT_IN_STEP = 3


class HeldSampler:
    """Counts the UNet's calls and holds the third until it is let go."""

    def __init__(self) -> None:
        self.steps = 0
        self._go = threading.Event()
        self._loop = asyncio.get_running_loop()
        self.held = asyncio.Event()

    def __call__(self, *_arguments: object) -> None:
        self.steps += 1
        if self.steps == LEFT_IN_STEP and not self._go.is_set():
            self._loop.call_soon_threadsafe(self.held.set)
            assert self._go.wait(20)

    def let_go(self) -> None:
        self._go.set()


@contextmanager
def held(model: LoadedModel) -> Iterator[HeldSampler]:
    sampler = HeldSampler()
    hook = model.pipeline.unet.register_forward_pre_hook(sampler)
    try:
        yield sampler
    finally:
        sampler.let_go()
        hook.remove()


async def leave_http(http: Any, sampler: HeldSampler) -> None:
    response = await http.post("/v1/images/generations", json=JSON)
    await sampler.held.wait()
    response.close()


async def leave_pictures(http: Any, sampler: HeldSampler) -> None:
    plain = {name: value for name, value in JSON.items() if name != "stream_format"}
    asked = asyncio.create_task(http.post("/v1/images/generations", json=plain | {"n": 2}))
    await sampler.held.wait()
    asked.cancel()


async def leave_grpc(servers: Servers, sampler: HeldSampler) -> None:
    call = servers.stub.Generate(request())
    await call.read()
    await sampler.held.wait()
    call.cancel()


async def run_out_of_time(servers: Servers, sampler: HeldSampler) -> None:
    call = servers.stub.Generate(request(), timeout=3.0)
    await call.read()
    await sampler.held.wait()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while await call.read() is not grpc.aio.EOF:
            pass
    assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED


def request() -> pb.GenerateRequest:
    return pb.GenerateRequest(prompt="a sea", size=pb.PixelSize(width=64, height=64), steps=30)


@asynccontextmanager
async def next_request_works(servers: Servers) -> AsyncIterator[None]:
    """Check, on leaving, that both protocols still serve and that nothing is left in the house."""
    yield
    response = await servers.http.post("/v1/images/generations", json=JSON | {"steps": 2})
    assert response.status == 200
    assert b"finish_reason\xa2ok" in await response.read()
    messages = [message async for message in servers.stub.Generate(request())]
    assert messages[-1].frame.finish_reason == "ok"
    assert servers.service.admission.jobs == 0


@pytest.mark.parametrize("way", ["http", "pixels", "gateway", "grpc", "deadline"])
async def test_leaving_stops_the_sampler_within_one_step(
    way: str, engine: DiffusersEngine, tiny_model: LoadedModel
) -> None:
    async with run_servers(engine, tiny_model.info) as servers, next_request_works(servers):
        with held(tiny_model) as sampler:
            if way == "http":
                await leave_http(servers.http, sampler)
            elif way == "pixels":
                await leave_pictures(servers.http, sampler)
            elif way == "gateway":
                async with run_http_gateway(servers.grpc_address) as (_, http):
                    await leave_http(http, sampler)
                    await no_jobs(servers)
            elif way == "grpc":
                await leave_grpc(servers, sampler)
            else:
                await run_out_of_time(servers, sampler)
            await no_jobs(servers)  # noticed while the step still runs
            sampler.let_go()
            await thread_is_free(engine)
            assert sampler.steps == LEFT_IN_STEP


@pytest.mark.parametrize("protocol", ["http", "grpc"])
async def test_leaving_while_queued_for_the_device_never_samples(
    protocol: str, engine: DiffusersEngine, tiny_model: LoadedModel
) -> None:
    async with run_servers(engine, tiny_model.info) as servers, next_request_works(servers):
        with held(tiny_model) as sampler:
            running = servers.stub.Generate(request())
            await sampler.held.wait()
            assert servers.service.admission.jobs == 1
            waiting: asyncio.Task[Any]
            if protocol == "http":
                waiting = asyncio.create_task(servers.http.post("/v1/images/generations", json=JSON))
            else:
                call = servers.stub.Generate(request())
                waiting = asyncio.create_task(call.read())
            async with asyncio.timeout(10):
                while servers.service.admission.jobs < 2:
                    await asyncio.sleep(0.01)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            if protocol == "grpc":
                call.cancel()
            async with asyncio.timeout(10):
                while servers.service.admission.jobs > 1:
                    await asyncio.sleep(0.01)
            running.cancel()
            await no_jobs(servers)
            sampler.let_go()
            await thread_is_free(engine)
            assert sampler.steps == LEFT_IN_STEP


async def no_jobs(servers: Servers) -> None:
    await asyncio.wait_for(servers.service.admission.wait_idle(), 10)


async def thread_is_free(engine: DiffusersEngine) -> None:
    await asyncio.wait_for(asyncio.wrap_future(engine._thread.submit(lambda: None)), 10)
