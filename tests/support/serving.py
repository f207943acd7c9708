"""HTTP and gRPC servers and the HTTP gateway, on free loopback ports in the test's event loop."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import grpc.aio

from codec_grpc.server import SERVER_OPTIONS, GrpcServer, start_grpc_server
from codec_grpc.upstream import Upstream
from codec_http.server import start_http_server
from codec_maps.model_map import map_from_model
from codec_server.runner import Stoppable
from codec_wire import StreamReader, WireFormat
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceStub
from codec_wire.grpc import CHANNEL_OPTIONS
from codec_wire.latents import LatentFrame, LatentStreamHeader, Modality
from codec_wire.maps import LatentMapBundle
from core.admission import Admission
from core.api_keys import ApiKeys
from core.engine import Engine
from core.lifecycle import Lifecycle, State
from core.model import ModelInfo
from core.request_memory import DEFAULT_LIMIT_BYTES
from core.served import ModelInstance
from core.service import LatentService
from core.tensor_vae import TensorVae
from core.vae_engine import VaeEngine

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
    """Return a map for `model` with static scales of 4.0 for int8 and int4."""
    return map_from_model(model, 0.18215, "AutoencoderKL", {"int8": SCALES, "int4": SCALES})


@dataclass(frozen=True, slots=True)
class Servers:
    """An HTTP and a gRPC server of one service, with an HTTP session and a gRPC channel connected to them."""

    service: LatentService
    servers: list[Stoppable]
    http: aiohttp.ClientSession
    grpc_address: str
    channel: grpc.aio.Channel

    @property
    def http_port(self) -> int:
        """The port of the HTTP server."""
        port = self.http._base_url.port if self.http._base_url else None
        assert port is not None
        return port

    @property
    def stub(self) -> Any:
        """A stub of the gRPC server. Any, because the generated type is that of a blocking stub."""
        return LatentServiceStub(self.channel)


def http_address(servers: Servers) -> str:
    """Return the URL of the HTTP server, without a slash at the end."""
    return str(servers.http._base_url).rstrip("/")


def plain_session(port: int) -> aiohttp.ClientSession:
    """Return an HTTP session that requests uncompressed bodies by default and never decompresses."""
    return aiohttp.ClientSession(
        f"http://127.0.0.1:{port}", auto_decompress=False, headers={"Accept-Encoding": "identity"}
    )


@asynccontextmanager
async def run_servers(
    engine: Engine,
    model: ModelInfo = MODEL,
    *,
    bundle: LatentMapBundle | None = None,
    vae: VaeEngine | None = None,
    tensor_vae: TensorVae | None = None,
    max_jobs: int = 32,
    max_cost: int = 10**12,
    max_request_bytes: int = DEFAULT_LIMIT_BYTES,
    request_timeout_s: float = 60,
    api_keys: ApiKeys | None = None,
) -> AsyncIterator[Servers]:
    """Run both servers for `engine` as the only engine; `model` describes it, `bundle` is its map.

    `vae` and `tensor_vae` decode latents; None if the server cannot. `max_jobs`, `max_cost` and `max_request_bytes` are
    the limits of admission control. `api_keys` are the accepted keys; None if no key is required.
    """
    service = LatentService(Lifecycle(), Admission(max_jobs, max_cost, max_request_bytes))
    service.models.replace(
        [ModelInstance(model, bundle or bundle_of(model), engine, "test device", vae=vae, tensor_vae=tensor_vae)]
    )
    service.lifecycle.transition_to(State.SERVING)
    async with run_servers_for(service, request_timeout_s, api_keys) as servers:
        yield servers


@asynccontextmanager
async def run_servers_for(
    service: LatentService, request_timeout_s: float = 60, api_keys: ApiKeys | None = None
) -> AsyncIterator[Servers]:
    """Run both servers for a service that the test has built."""
    http = await start_http_server(service, "127.0.0.1", 0, request_timeout_s, api_keys=api_keys)
    grpc_server = await start_grpc_server(service, "127.0.0.1", 0, request_timeout_s, api_keys=api_keys)
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
async def run_http_gateway(
    *grpc_addresses: str, upstream_api_key: str | None = None
) -> AsyncIterator[tuple[LatentService, aiohttp.ClientSession]]:
    """Run an HTTP gateway to the gRPC servers at `grpc_addresses`, to which it sends `upstream_api_key`.

    Yields the gateway's service and an HTTP session once it is ready to serve.
    """
    service = LatentService(Lifecycle(), Admission(64, 10**12))
    serving = asyncio.Event()
    service.lifecycle.subscribe(lambda state: serving.set() if state is State.SERVING else None)
    async with Upstream(service, grpc_addresses, api_key=upstream_api_key) as upstream:
        http = await start_http_server(service, "127.0.0.1", 0, 60)
        following = asyncio.create_task(upstream.follow())
        try:
            async with asyncio.timeout(10):
                await serving.wait()
            async with plain_session(http.port) as session:
                yield service, session
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await http.stop()


def read_stream(body: bytes, wire_format: WireFormat) -> tuple[LatentStreamHeader, list[LatentFrame]]:
    """Decode the messages of a complete body; return the header and the frames."""
    reader = StreamReader(wire_format)
    messages = list(reader.feed(body))
    reader.close()
    header, *frames = messages
    assert isinstance(header, LatentStreamHeader)
    assert all(isinstance(frame, LatentFrame) for frame in frames)
    return header, frames  # type: ignore[return-value]


@asynccontextmanager
async def grpc_server(options: Mapping[str, Any]) -> AsyncIterator[GrpcServer]:
    """Run a gRPC server without models. Its channel arguments are the defaults of the server and `options`."""
    service = LatentService(Lifecycle(), Admission(32, 10**12))
    arguments = list((dict(SERVER_OPTIONS) | dict(options)).items())
    server = await start_grpc_server(service, "127.0.0.1", 0, 60, options=arguments)
    try:
        yield server
    finally:
        await server.stop()
