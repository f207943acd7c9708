"""The gRPC server with LatentService, health checks and reflection."""

import resource
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from codec_grpc.health import SERVICES, LifecycleHealth
from codec_grpc.interceptor import ErrorBoundary
from codec_grpc.receptions import MAX_REQUEST_BYTES
from codec_grpc.reflection import enable_reflection
from codec_grpc.servicer import LatentServicer
from codec_grpc.tls import server_credentials
from codec_wire.errors import InvalidSettings
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import add_LatentServiceServicer_to_server
from core.address import host_port
from core.api_keys import ApiKeys
from core.service import LatentService
from core.tls import ServerTls

MAX_STREAMS = 128
"""Maximum number of active calls on one connection, unless twice CODEC_MAX_JOBS is larger. Clients delay further calls.

The limit bounds the memory for calls whose headers are too large. gRPC stores up to 1 MB for each of them.
"""
IDLE_TIMEOUT_S = 300
"""Time in seconds after which a connection without calls is closed. Clients connect again for their next call."""
MAX_CONNECTIONS = min(1024, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
"""Maximum number of open connections. Idle clients must not use up the file descriptors that HTTP needs."""
HANDSHAKE_TIMEOUT_S = 20
"""Time in seconds after which a connection is closed if the client has not sent its HTTP/2 settings."""

SERVER_OPTIONS: list[tuple[str, Any]] = [
    # No messages are sent while a generation is queued or sampling. Allow clients to ping every 10 s meanwhile.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # Ping clients every 30 s, so that a lost connection is detected within a minute.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
    # The default of 4 MiB is too small for two input images.
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    # Without an estimate of the network's speed, a client can send 64 KiB of a message for which no method waits. With
    # the estimate, it would be at least 4 MiB for each connection. If a method waits, the whole message can be sent.
    ("grpc.http2.bdp_probe", 0),
    # Parts of a received message or header keep the whole buffers that they were read into in memory. The default is
    # 4 MiB, with which a few kB of unfinished headers took more than 500 MB.
    ("grpc.experimental.tcp_max_read_chunk_size", 64 * 1024),
    # gRPC would keep calls that it refuses in memory for up to a second, at most 1 MB for each.
    ("grpc.http.tarpit", 0),
    # codec_grpc.message_compression decompresses messages, because gRPC would do so in the thread of the event loop.
    ("grpc.per_message_decompression", 0),
    ("grpc.max_connection_idle_ms", IDLE_TIMEOUT_S * 1000),
    # If the event loop does not accept a call within this number of seconds, gRPC ends the call with CANCELLED, which
    # clients do not retry. The default of 30 s is too short for a server whose host is overloaded.
    ("grpc.server_max_unrequested_time_in_server", 3600),
    ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_TIMEOUT_S * 1000),
    # Otherwise a second server on the same port would start and receive a share of the connections.
    ("grpc.so_reuseport", 0),
]


@dataclass(frozen=True, slots=True)
class _UnregisteredMethods:
    """The part of `server` to which generated code adds a service, without the registration of the service's methods.

    grpc.aio waits for the next call of each registered method separately. For every call, it adds a callback to each of
    these waits and removes the callbacks again. With the methods of this server, these are 80 calls of functions.
    """

    server: grpc.aio.Server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Add `handlers`, which find the methods of a service by name."""
        self.server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        """Do nothing, because the generic handlers contain all methods."""


@dataclass(frozen=True, slots=True)
class GrpcServer:
    """A running gRPC server and the port on which the server listens."""

    server: grpc.aio.Server
    port: int

    async def stop(self) -> None:
        """Stop the server without waiting for active calls. Drain the server before calling this method."""
        await self.server.stop(None)


async def start_grpc_server(
    service: LatentService,
    host: str,
    port: int,
    request_timeout_s: float,
    *,
    api_keys: ApiKeys | None = None,
    tls: ServerTls | None = None,
    options: Sequence[tuple[str, Any]] = SERVER_OPTIONS,
) -> GrpcServer:
    """Start the gRPC server on `host`:`port`. Port 0 selects a free port.

    A generation may take at most `request_timeout_s` seconds. `api_keys` are the accepted keys, or None if no key is
    required. `tls` contains the certificates of the server. Without `tls`, the server does not use TLS. `options` are
    the channel arguments of the server. Raises InvalidSettings if the address is not available.
    """
    streams = ("grpc.max_concurrent_streams", max(MAX_STREAMS, 2 * service.admission.max_jobs))
    server = grpc.aio.server(interceptors=[ErrorBoundary(service, api_keys)], options=[streams, *options])
    methods: Any = _UnregisteredMethods(server)
    add_LatentServiceServicer_to_server(LatentServicer(service, request_timeout_s), methods)
    health_pb2_grpc.add_HealthServicer_to_server(LifecycleHealth(service), methods)
    health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    enable_reflection((*SERVICES[1:], health_name), server)
    address = host_port(host, port)
    try:
        bound = (
            server.add_insecure_port(address)
            if tls is None
            else server.add_secure_port(address, server_credentials(tls))
        )
    except RuntimeError:
        raise InvalidSettings(
            f"gRPC cannot listen on {address}: the port is in use, or the address does not belong to this host"
        ) from None
    await server.start()
    return GrpcServer(server, bound)
