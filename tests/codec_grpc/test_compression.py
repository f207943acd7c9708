"""Compression of messages over gRPC: off, unless a client asks for it. Counted in the bytes on the socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from codec_grpc.servicer import COMPRESSION_KEY
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceStub
from codec_wire.grpc import CHANNEL_OPTIONS
from tests.support.fake_engine import FakeEngine
from tests.support.serving import run_servers

REQUEST = pb.GenerateRequest(prompt="a sea", size=pb.PixelSize(width=512, height=512), steps=1, pipeline="int8")
FRAME_BYTES = 4 * 64 * 64


class CountingRelay:
    """Passes one server's connections on and counts the bytes that come from it."""

    def __init__(self, address: str) -> None:
        self._host, port = address.split(":")
        self._port = int(port)
        self.received = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(self._host, self._port)
        try:
            await asyncio.gather(self._pass(reader, to_server, counted=False), self._pass(from_server, writer))
        except ConnectionError:
            pass
        finally:
            writer.close()
            to_server.close()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, counted: bool = True) -> None:
        while data := await source.read(65536):
            self.received += len(data) if counted else 0
            target.write(data)
            await target.drain()
        target.close()


@asynccontextmanager
async def relayed() -> AsyncIterator[tuple[Any, CountingRelay]]:
    """Yield a stub for a real server behind a relay, and the relay. The fake engine's latents are zeros."""
    async with run_servers(FakeEngine(free_running=True)) as servers:
        relay = CountingRelay(servers.grpc_address)
        listening = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS) as channel:
            yield LatentServiceStub(channel), relay
        listening.close()
        await listening.wait_closed()


async def received(stub: Any, relay: CountingRelay, **call: Any) -> tuple[list[bytes], int]:
    before = relay.received
    messages = [message.SerializeToString() async for message in stub.Generate(REQUEST, **call)]
    return messages, relay.received - before


async def test_messages_are_compressed_only_where_the_client_asks_for_it() -> None:
    async with relayed() as (stub, relay):
        plain, plain_bytes = await received(stub, relay)
        assert plain_bytes > FRAME_BYTES
        for asked in ("gzip", "deflate"):
            messages, count = await received(stub, relay, metadata=[(COMPRESSION_KEY, asked)])
            assert messages == plain
            assert count < FRAME_BYTES / 10, asked
        for call in (
            {"metadata": [(COMPRESSION_KEY, "identity")]},
            {"metadata": [("grpc-accept-encoding", "gzip")]},  # what every client says of itself asks for nothing
            {"compression": grpc.Compression.Gzip},  # compresses the request alone: gRPC does not show it to a handler
        ):
            messages, count = await received(stub, relay, **call)
            assert messages == plain
            assert count > FRAME_BYTES, call


async def test_the_header_comes_before_the_first_step_ends_compressed_too() -> None:
    engine = FakeEngine()
    async with run_servers(engine) as servers:
        call = servers.stub.Generate(REQUEST, metadata=[(COMPRESSION_KEY, "gzip")])
        assert (await call.read()).HasField("header")
        assert engine.finished == 0
        engine.release_steps(1)
        assert (await call.read()).frame.done


@pytest.mark.parametrize("asked", ["br", "zstd", "", "gzip, deflate"])
async def test_what_grpc_does_not_have_is_refused(asked: str) -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        call = servers.stub.Generate(REQUEST, metadata=[(COMPRESSION_KEY, asked)])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "must be one of identity, gzip, deflate" in str(caught.value.details())
