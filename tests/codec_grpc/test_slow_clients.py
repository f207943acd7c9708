"""Clients that send their messages slowly to a running server, and the rests of refused calls."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from grpc import StatusCode
from grpc_reflection.v1alpha import reflection_pb2

from codec_grpc import received_messages, receptions, service_method
from codec_grpc.call import Call
from codec_grpc.encode_call import encode
from codec_grpc.receptions import MAX_REQUEST_BYTES, Receptions, reception_of_call
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from core.api_keys import ApiKeys
from core.engine import Job
from core.probe import sample_image
from tests.support.fake_engine import FakeEngine
from tests.support.fake_vae import FakeVae
from tests.support.grpc_requests import request
from tests.support.latent_streams import decode_requests_of, random_stream
from tests.support.serving import Servers, run_servers

DECODE = "/codec.latents.v1.LatentService/Decode"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"


class Rests:
    """The rests of refused calls that the server receives, while the tests run the real function `discard`."""

    def __init__(self) -> None:
        self.started = asyncio.Semaphore(0)
        self.received: list[Any] = []

    async def discard(self, messages: AsyncIterator[Any]) -> None:
        self.started.release()
        await received_messages.discard(self._recorded(messages))

    async def _recorded(self, messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for message in messages:
            self.received.append(message)
            yield message


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> Rests:
    """Rests of refused calls, which the server receives until the clients have sent everything."""
    monkeypatch.setattr(received_messages, "LINGER_S", 3600)
    rests = Rests()
    monkeypatch.setattr(service_method, "discard", rests.discard)
    return rests


async def test_rest_of_a_refused_call_does_not_take_a_turn(rests: Rests, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receptions, "TURN_S", 3600)
    async with (
        asyncio.timeout(30),
        run_servers(FakeEngine(free_running=True), vae=FakeVae(), api_keys=ApiKeys("secret", None)) as servers,
    ):
        channel: Any = servers.channel
        silent = [channel.stream_stream(DECODE)() for _ in range(receptions.MAX_TURNS)]
        for _ in silent:
            await rests.started.acquire()
        call = servers.stub.Generate(request(), metadata=(("authorization", "Bearer secret"),))
        assert (await call.read()).HasField("header")
        for refused in silent:
            refused.cancel()


async def test_decode_client_that_is_refused_while_it_sends_receives_the_status(
    rests: Rests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receptions, "TURN_S", 0.01)
    monkeypatch.setattr(receptions, "PATIENCE_S", 0)
    header, *frames = decode_requests_of(random_stream("int8", 5))
    continues = asyncio.Event()

    async def slow_requests() -> AsyncIterator[pb.DecodeRequest]:
        yield header
        await continues.wait()
        for frame in frames:
            yield frame

    async with asyncio.timeout(30), run_servers(FakeEngine(), vae=FakeVae(free_running=True)) as servers:
        with servers.service.admission.memory.reserve(servers.service.admission.memory.limit):
            calls = [servers.stub.Decode(slow_requests()) for _ in range(receptions.MAX_TURNS + 1)]
            await rests.started.acquire()
            continues.set()
            statuses = {await call.code() for call in calls}
        assert StatusCode.RESOURCE_EXHAUSTED in statuses
        assert statuses <= {StatusCode.RESOURCE_EXHAUSTED, StatusCode.OK}
        assert "frame" in {message.WhichOneof("part") for message in rests.received}


class UnitContext:
    """The context of a call without metadata."""

    def invocation_metadata(self) -> Any:
        """See codec_grpc.call.Context."""
        return ()

    def peer(self) -> str:
        """See codec_grpc.call.Context."""
        return "ipv4:127.0.0.1:1"


async def test_slow_reception_of_a_file_ends_before_the_file_is_reserved() -> None:
    vae = FakeVae(free_running=True)
    async with run_servers(FakeEngine(), vae=vae, max_request_bytes=MAX_REQUEST_BYTES) as servers:
        memory = servers.service.admission.memory
        limited = Receptions(memory)
        reception, other = [await limited.begin("a") for _ in range(receptions.MAX_TURNS)]
        waiting = asyncio.create_task(limited.begin("a"))
        await asyncio.sleep(0)
        reception._give_up_turn()
        assert memory.used == MAX_REQUEST_BYTES
        reception_of_call.set(reception)
        servers.service.telemetry.begin("grpc", "Encode", "encode")
        file = sample_image(3)
        messages = encode(servers.service, pb.EncodeRequest(file=file), Call(UnitContext()), Job())
        assert (await anext(messages)).HasField("header")
        assert memory.used == len(file)
        await messages.aclose()
        (await waiting).end()
        other.end()
        assert memory.used == 0


def reflection_call(servers: Servers) -> Any:
    return servers.channel.stream_stream(
        REFLECTION,
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )()


async def list_services(call: Any) -> Any:
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    return await call.read()


async def test_idle_reflection_stream_ends_with_ok_if_another_needs_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receptions, "TURN_S", 0.01)
    async with asyncio.timeout(30), run_servers(FakeEngine()) as servers:
        idle = [reflection_call(servers) for _ in range(receptions.MAX_TURNS)]
        for call in idle:
            assert (await list_services(call)).HasField("list_services_response")
        assert (await list_services(reflection_call(servers))).HasField("list_services_response")
        codes = [asyncio.ensure_future(call.code()) for call in idle]
        ended, _ = await asyncio.wait(codes, return_when=asyncio.FIRST_COMPLETED)
        assert {code.result() for code in ended} == {StatusCode.OK}


async def test_reflection_stream_without_a_message_is_refused_with_the_time_to_retry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(receptions, "TURN_S", 0.01)
    async with asyncio.timeout(30), run_servers(FakeEngine()) as servers:
        silent = [reflection_call(servers) for _ in range(receptions.MAX_TURNS + 1)]
        codes = {asyncio.ensure_future(call.code()): call for call in silent}
        ended, _ = await asyncio.wait(codes, return_when=asyncio.FIRST_COMPLETED)
        for code in ended:
            assert code.result() is StatusCode.RESOURCE_EXHAUSTED
            metadata = dict(await codes[code].trailing_metadata())
            assert metadata["grpc-retry-pushback-ms"] == "1000"
            assert metadata["retry-after"] == "1"
