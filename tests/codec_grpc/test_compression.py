"""Compression of gRPC messages, which clients request. Measured as bytes on the socket."""

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


class CountingProxy:
    """TCP proxy that counts the bytes received from the server."""

    def __init__(self, address: str) -> None:
        self._host, port = address.split(":")
        self._port = int(port)
        self.received_bytes = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(self._host, self._port)
        try:
            await asyncio.gather(self._forward(reader, to_server, counted=False), self._forward(from_server, writer))
        except ConnectionError:
            pass
        finally:
            writer.close()
            to_server.close()

    async def _forward(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, counted: bool = True
    ) -> None:
        while data := await source.read(65536):
            self.received_bytes += len(data) if counted else 0
            target.write(data)
            await target.drain()
        target.close()


@asynccontextmanager
async def run_proxy() -> AsyncIterator[tuple[Any, CountingProxy]]:
    """Yield a stub that is connected through a proxy, and the proxy. The latents of the fake engine are zeros."""
    async with run_servers(FakeEngine(free_running=True)) as servers:
        proxy = CountingProxy(servers.grpc_address)
        listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS) as channel:
            yield LatentServiceStub(channel), proxy
        listening.close()
        await listening.wait_closed()


async def generate(stub: Any, proxy: CountingProxy, **call: Any) -> tuple[list[bytes], int]:
    before = proxy.received_bytes
    messages = [message.SerializeToString() async for message in stub.Generate(REQUEST, **call)]
    return messages, proxy.received_bytes - before


async def test_messages_are_compressed_only_if_the_client_requests_it() -> None:
    async with run_proxy() as (stub, proxy):
        plain, plain_bytes = await generate(stub, proxy)
        assert plain_bytes > FRAME_BYTES
        for name in ("gzip", "deflate"):
            messages, count = await generate(stub, proxy, metadata=[(COMPRESSION_KEY, name)])
            assert messages == plain
            assert count < FRAME_BYTES / 10, name
        for call in (
            {"metadata": [(COMPRESSION_KEY, "identity")]},
            {"metadata": [("grpc-accept-encoding", "gzip")]},  # every client sends it
            {"compression": grpc.Compression.Gzip},  # compresses the request only
        ):
            messages, count = await generate(stub, proxy, **call)
            assert messages == plain
            assert count > FRAME_BYTES, call


async def test_compressed_header_is_received_before_the_first_step_ends() -> None:
    engine = FakeEngine()
    async with run_servers(engine) as servers:
        call = servers.stub.Generate(REQUEST, metadata=[(COMPRESSION_KEY, "gzip")])
        assert (await call.read()).HasField("header")
        assert engine.finished == 0
        engine.release_steps(1)
        assert (await call.read()).frame.done


@pytest.mark.parametrize("name", ["br", "zstd", "", "gzip, deflate"])
async def test_unknown_compression_is_rejected(name: str) -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        call = servers.stub.Generate(REQUEST, metadata=[(COMPRESSION_KEY, name)])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "must be one of identity, gzip, deflate" in str(caught.value.details())
