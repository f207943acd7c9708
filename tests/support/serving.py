"""Real servers on loopback, over whatever engine a test brings."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import grpc.aio

from codec_grpc.server import start_grpc_server
from codec_grpc.upstream import Upstream, upstream_channel
from codec_http.server import start_http_server
from codec_maps.document import map_of_model
from codec_server.runner import Stoppable
from codec_wire import StreamReader, WireFormat
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceStub
from codec_wire.grpc import CHANNEL_OPTIONS
from codec_wire.latents import LatentFrame, LatentStreamHeader, Modality
from codec_wire.maps import LatentMapBundle
from core.admission import Admission
from core.engine import Engine
from core.lifecycle import Lifecycle, State
from core.model import ModelInfo
from core.served import ModelInstance
from core.service import LatentService

LATENT_SPACE = "stabilityai/sd-vae-ft-mse"
SCALES = bytes.fromhex("0044") * 4  # 4.0 for each of four channels
MODEL = ModelInfo(
    name="tiny-sd",
    latent_space=LATENT_SPACE,
    latent_channels=4,
    spatial_factor=8,
    size_multiple=8,
    default_size=(256, 256),
    aliases=("little",),
)
VIDEO_MODEL = replace(MODEL, name="tiny-sd-video", aliases=(), default_size=(64, 64), modalities=(Modality.VIDEO,))


def bundle_of(model: ModelInfo) -> LatentMapBundle:
    """Return a map for `model` with static scales."""
    return map_of_model(model, 0.18215, "AutoencoderKL", {"int8": SCALES, "int4": SCALES})


@dataclass(frozen=True, slots=True)
class Servers:
    """Both servers over one service, and clients of each."""

    service: LatentService
    servers: list[Stoppable]
    http: aiohttp.ClientSession
    grpc_address: str
    channel: grpc.aio.Channel

    @property
    def stub(self) -> Any:
        """A stub for the gRPC server; untyped, for it is an asyncio one only to the type checker."""
        return LatentServiceStub(self.channel)


def http_address(servers: Servers) -> str:
    """Return the URL of the HTTP server."""
    return str(servers.http._base_url).rstrip("/")


def plain_session(port: int) -> aiohttp.ClientSession:
    """Return a client that takes bodies as they are, unless a request of it says otherwise."""
    return aiohttp.ClientSession(
        f"http://127.0.0.1:{port}", auto_decompress=False, headers={"Accept-Encoding": "identity"}
    )


@asynccontextmanager
async def run_servers(
    engine: Engine,
    model: ModelInfo = MODEL,
    *,
    bundle: LatentMapBundle | None = None,
    max_jobs: int = 32,
    max_cost: int = 10**12,
    request_timeout_s: float = 60,
) -> AsyncIterator[Servers]:
    """Serve `engine` over HTTP and gRPC until left."""
    service = LatentService(Lifecycle(), Admission(max_jobs, max_cost))
    service.models.replace([ModelInstance(model, bundle or bundle_of(model), engine, "test device")])
    service.lifecycle.transition_to(State.SERVING)
    async with run_servers_for(service, request_timeout_s) as servers:
        yield servers


@asynccontextmanager
async def run_servers_for(service: LatentService, request_timeout_s: float = 60) -> AsyncIterator[Servers]:
    """Serve `service` over HTTP and gRPC until left."""
    http = await start_http_server(service, "127.0.0.1", 0, request_timeout_s)
    grpc_server = await start_grpc_server(service, "127.0.0.1", 0, request_timeout_s)
    address = f"127.0.0.1:{grpc_server.port}"
    try:
        async with (
            plain_session(http.port) as session,
            grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel,
        ):
            yield Servers(service, [http, grpc_server], session, address, channel)
    finally:
        await http.stop()
        await grpc_server.stop()


@asynccontextmanager
async def run_http_gateway(grpc_address: str) -> AsyncIterator[tuple[LatentService, aiohttp.ClientSession]]:
    """Serve HTTP over a gRPC server until left; yields once the gateway serves."""
    service = LatentService(Lifecycle(), Admission(64, 10**12))
    serving = asyncio.Event()
    service.lifecycle.subscribe(lambda state: serving.set() if state is State.SERVING else None)
    http = await start_http_server(service, "127.0.0.1", 0, 60)
    channel = upstream_channel(grpc_address)
    following = asyncio.create_task(Upstream(service, channel).follow())
    try:
        async with asyncio.timeout(10):
            await serving.wait()
        async with plain_session(http.port) as session:
            yield service, session
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await http.stop()
        await channel.close()


def read_stream(body: bytes, wire_format: WireFormat) -> tuple[LatentStreamHeader, list[LatentFrame]]:
    """Return the header and the frames of a whole body."""
    reader = StreamReader(wire_format)
    messages = list(reader.feed(body))
    reader.close()
    header, *frames = messages
    assert isinstance(header, LatentStreamHeader)
    assert all(isinstance(frame, LatentFrame) for frame in frames)
    return header, frames  # type: ignore[return-value]
