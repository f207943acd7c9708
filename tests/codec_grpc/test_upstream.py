"""Connection of a gateway to its upstream server."""

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import pytest

from codec_grpc.messages import model_from_message, model_to_message
from codec_grpc.server import start_grpc_server
from codec_grpc.upstream import Upstream
from codec_http.server import start_http_server
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.grpc import event_from_message
from core.admission import Admission
from core.lifecycle import Lifecycle, State
from core.served import ModelInstance
from core.service import LatentService
from tests.support.fake_engine import FakeEngine
from tests.support.serving import MODEL, bundle_of
from tests.support.upstream_servers import free_port

BODY = {"prompt": "a sea", "stream_format": "msgpack", "size": "64x64", "steps": 1}


def service_over(engine: FakeEngine) -> LatentService:
    service = LatentService(Lifecycle(), Admission(8, 10**12))
    service.models.replace([ModelInstance(MODEL, bundle_of(MODEL), engine, "test")])
    service.lifecycle.transition_to(State.SERVING)
    return service


class States:
    """Recorder of lifecycle states that tests can wait for."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._queue: asyncio.Queue[State] = asyncio.Queue()
        lifecycle.subscribe(self._queue.put_nowait)

    async def wait_for(self, state: State) -> None:
        async with asyncio.timeout(20):
            while await self._queue.get() is not state:
                pass


@pytest.mark.slow
async def test_gateway_follows_the_state_of_its_server() -> None:
    port = free_port()
    gateway = LatentService(Lifecycle(), Admission(8, 10**12))
    states = States(gateway.lifecycle)
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Upstream(gateway, [f"127.0.0.1:{port}"]))
        http = await start_http_server(gateway, "127.0.0.1", 0, 60)
        stack.push_async_callback(http.stop)
        following = asyncio.create_task(upstream.follow())
        session = await stack.enter_async_context(aiohttp.ClientSession(f"http://127.0.0.1:{http.port}"))

        async def request_status() -> int:
            async with session.post("/v1/images/generations", json=BODY) as response:
                await response.read()
                return response.status

        assert await request_status() == 503
        for _ in range(2):  # the server is started, stopped and started again
            server = await start_grpc_server(service_over(FakeEngine(free_running=True)), "127.0.0.1", port, 60)
            await states.wait_for(State.SERVING)
            assert await request_status() == 200
            await server.stop()
            await states.wait_for(State.LOADING)
            assert await request_status() == 503
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_gateway_of_a_draining_server_stops_serving() -> None:
    service = service_over(FakeEngine(free_running=True))
    server = await start_grpc_server(service, "127.0.0.1", 0, 60)
    gateway = LatentService(Lifecycle(), Admission(8, 10**12))
    states = States(gateway.lifecycle)
    async with Upstream(gateway, [f"127.0.0.1:{server.port}"]) as upstream:
        following = asyncio.create_task(upstream.follow())
        await states.wait_for(State.SERVING)
        service.lifecycle.transition_to(State.DRAINING)
        await states.wait_for(State.LOADING)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    await server.stop()


def test_unknown_event_is_ignored() -> None:
    assert event_from_message(pb.GenerateResponse()) is None


def test_unknown_modality_is_ignored() -> None:
    message = model_to_message(MODEL)
    message.modalities.append(7)  # type: ignore[arg-type]
    assert model_from_message(message) == MODEL
