"""Reception of request messages by a running server: order of the checks, memory, and messages that are not allowed."""

import asyncio
import gc
import gzip
import os
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc

from codec_grpc import auxiliary_methods, received_messages, receptions
from codec_grpc.call import Call
from codec_grpc.message_compression import INLINE_BYTES
from codec_grpc.receptions import MAX_REQUEST_BYTES, MAX_TURNS, SMALL_BYTES
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from core.api_keys import ApiKeys
from tests.support.fake_engine import FakeEngine
from tests.support.fake_vae import FakeVae
from tests.support.grpc_requests import request
from tests.support.latent_streams import decode_requests_of, random_stream
from tests.support.logged_errors import logged_errors
from tests.support.serving import Servers, run_servers

SERVICE = "/codec.latents.v1.LatentService"
JOBS = ("Generate", "Encode", "Decode")


@pytest.fixture
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receptions, "TURN_S", 0.01)
    monkeypatch.setattr(receptions, "PATIENCE_S", 0.02)


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    vae = FakeVae(free_running=True)
    async with run_servers(FakeEngine(free_running=True), vae=vae) as running:
        yield running


def silent_call(servers: Servers, method: str) -> Any:
    """Begin a call whose client sends no message."""
    channel: Any = servers.channel
    return channel.stream_stream(f"{SERVICE}/{method}")()


async def refused(servers: Servers, **fields: Any) -> StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await servers.stub.Generate(request(**fields)).read()
    return caught.value.code()


async def test_many_large_messages_at_once_are_all_answered(servers: Servers) -> None:
    large = [refused(servers, image=bytes(2**20)) for _ in range(10)]
    small = [servers.stub.Generate(request()).read() for _ in range(10)]
    assert set(await asyncio.gather(*large)) == {StatusCode.INVALID_ARGUMENT}
    assert all(message.HasField("header") for message in await asyncio.gather(*small))
    assert servers.service.admission.memory.used == 0


async def test_refused_request_is_freed_without_garbage_collection(servers: Servers) -> None:
    gc.collect()
    gc.disable()
    try:
        assert await refused(servers, image=bytes(100)) is StatusCode.INVALID_ARGUMENT
        # Call is a local variable of the frames that have the request.
        async with asyncio.timeout(30):
            while any(type(found) is Call for found in gc.get_objects()):
                await asyncio.sleep(0.05)
    finally:
        gc.enable()


async def test_request_of_a_running_generation_is_freed() -> None:
    engine = FakeEngine()
    async with run_servers(engine) as running:
        channel: Any = running.channel
        call = channel.unary_stream(f"{SERVICE}/Generate")(request(steps=3).SerializeToString())
        await engine.wait_until_started(1)
        assert not [found for found in gc.get_objects() if type(found) is pb.GenerateRequest and found.steps == 3]
        call.cancel()


@pytest.mark.parametrize("method", JOBS)
async def test_silent_clients_use_limited_memory_and_do_not_exclude_others(
    short_turns: None,
    servers: Servers,
    method: str,
) -> None:
    memory = servers.service.admission.memory
    silent = [silent_call(servers, method) for _ in range(20)]
    statuses = [asyncio.ensure_future(call.code()) for call in silent]
    done, rest = await asyncio.wait(statuses, return_when=asyncio.FIRST_COMPLETED)
    assert (await servers.stub.Generate(request()).read()).HasField("header")
    allowed = memory.limit // 2 // MAX_REQUEST_BYTES + MAX_TURNS
    async with asyncio.timeout(30):
        while len(rest) > allowed:
            more, rest = await asyncio.wait(rest, return_when=asyncio.FIRST_COMPLETED)
            done |= more
    assert {status.result() for status in done} == {StatusCode.RESOURCE_EXHAUSTED}
    assert 0 < memory.used <= memory.limit // 2
    for call in silent:
        call.cancel()
    async with asyncio.timeout(30):
        while memory.used:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("method", JOBS)
async def test_key_is_checked_before_a_message_is_received(method: str) -> None:
    async with run_servers(FakeEngine(), vae=FakeVae(), api_keys=ApiKeys("secret", None)) as running:
        assert await silent_call(running, method).code() is StatusCode.UNAUTHENTICATED


async def test_refused_client_that_is_still_sending_receives_the_status() -> None:
    async with run_servers(FakeEngine(), vae=FakeVae(), max_jobs=1) as running:
        held = running.stub.Generate(request())
        await held.read()
        call = running.stub.Decode(decode_requests_of(random_stream("int8", 10)))
        assert await call.code() is StatusCode.RESOURCE_EXHAUSTED
        held.cancel()


async def no_messages() -> AsyncIterator[bytes]:
    messages: tuple[bytes, ...] = ()
    for message in messages:
        yield message


@pytest.mark.parametrize("method", ["Generate", "Encode", "GetServerInfo", "GetLatentMap"])
async def test_missing_message_is_invalid_argument(servers: Servers, method: str) -> None:
    channel: Any = servers.channel
    kind = "stream_unary" if method.startswith("Get") else "stream_stream"
    call = getattr(channel, kind)(f"{SERVICE}/{method}")(no_messages())
    assert await call.code() is StatusCode.INVALID_ARGUMENT
    assert await call.details() == "request: must be one message, but the call sent no message"


@pytest.mark.parametrize("method", [*JOBS, "GetServerInfo"])
async def test_message_over_the_limit_of_grpc_is_refused(
    servers: Servers, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    channel: Any = servers.channel
    kind = "stream_unary" if method.startswith("Get") else "stream_stream"
    call = getattr(channel, kind)(f"{SERVICE}/{method}")(iter([bytes(MAX_REQUEST_BYTES + 1)]))
    assert await call.code() is StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in await call.details()
    await asyncio.sleep(2 * received_messages.MISSING_MESSAGE_DELAY_S)
    assert logged_errors(caplog) == []


COMPRESSIONS = (grpc.Compression.Gzip, grpc.Compression.Deflate)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("method", [*JOBS, "GetServerInfo"])
async def test_compressed_message_over_the_limit_is_invalid_argument(
    servers: Servers, method: str, compression: grpc.Compression, caplog: pytest.LogCaptureFixture
) -> None:
    """A message of zeros is about 17 kB after compression."""
    channel: Any = servers.channel
    kind = "stream_unary" if method.startswith("Get") else "stream_stream"
    send = getattr(channel, kind)(f"{SERVICE}/{method}")
    call = send(iter([bytes(MAX_REQUEST_BYTES + 1)]), compression=compression)
    assert await call.code() is StatusCode.INVALID_ARGUMENT
    assert "must have at most" in await call.details()
    assert logged_errors(caplog) == []


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_compressed_requests_are_supported(servers: Servers, compression: grpc.Compression) -> None:
    prompt = "a sea " * 500  # more than message_compression.INLINE_BYTES before, less after compression
    message = request(prompt=prompt, image=os.urandom(4 * INLINE_BYTES))
    with pytest.raises(grpc.aio.AioRpcError, match="image: must be a PNG"):
        await servers.stub.Generate(message, compression=compression).read()
    assert (await servers.stub.Generate(request(), compression=compression).read()).HasField("header")
    header, *frames = [
        answer async for answer in servers.stub.Decode(decode_requests_of(random_stream()), compression=compression)
    ]
    assert header.HasField("size")
    assert len(frames) == 1
    check = health_pb2_grpc.HealthStub(servers.channel).Check  # type: ignore[attr-defined]
    assert await check(health_pb2.HealthCheckRequest(), compression=compression)


async def test_message_that_looks_like_deflated_data_is_not_decompressed(servers: Servers) -> None:
    channel: Any = servers.channel
    data = pb.GenerateRequest(progress=True).SerializeToString()
    assert data == b"\x78\x01"
    call = channel.unary_stream(f"{SERVICE}/Generate")(data)
    assert "prompt" in await call.details()


@pytest.mark.parametrize(
    "data",
    [b"\x1f\x8b", b"\x1f\x8b\x08\x00damaged", gzip.compress(b"x")[:-1]],
    ids=["only the magic number", "damaged header", "without the last byte"],
)
async def test_damaged_gzip_data_is_invalid_argument(servers: Servers, data: bytes) -> None:
    channel: Any = servers.channel
    call = channel.unary_stream(f"{SERVICE}/Generate")(data)
    assert await call.code() is StatusCode.INVALID_ARGUMENT
    assert await call.details() == f"request: is not valid gzip data ({len(data)} bytes)"


@pytest.mark.parametrize(
    "path", [f"{SERVICE}/GetLatentMap", "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"]
)
async def test_large_message_to_a_method_with_small_messages_is_invalid_argument(servers: Servers, path: str) -> None:
    channel: Any = servers.channel
    kind = "unary_stream" if path.endswith("Watch") else "unary_unary"
    message = health_pb2.HealthCheckRequest(service="x" * SMALL_BYTES).SerializeToString()
    call = getattr(channel, kind)(path)(message)
    assert await call.code() is StatusCode.INVALID_ARGUMENT
    assert f"must have at most {SMALL_BYTES} bytes" in await call.details()


async def test_watches_of_the_health_are_limited_for_each_client(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auxiliary_methods, "MAX_STREAMS_PER_IP", 3)
    stub: Any = health_pb2_grpc.HealthStub(servers.channel)
    watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(3)]
    for watch in watches:
        await watch.read()
    assert await stub.Watch(health_pb2.HealthCheckRequest()).code() is StatusCode.RESOURCE_EXHAUSTED
    assert await stub.Check(health_pb2.HealthCheckRequest())
    watches[0].cancel()
    async with asyncio.timeout(30):
        while (watch := stub.Watch(health_pb2.HealthCheckRequest())) and await watch.read() is grpc.aio.EOF:
            await asyncio.sleep(0.05)  # until the server has ended the cancelled call
