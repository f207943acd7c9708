"""Builds the gRPC server: our service, health, reflection."""

from dataclasses import dataclass
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from codec_grpc.health import SERVICES, LifecycleHealth
from codec_grpc.interceptor import ErrorBoundary
from codec_grpc.servicer import LatentServicer
from codec_wire.errors import InvalidSettings
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import add_LatentServiceServicer_to_server
from core.input_image import MAX_IMAGE_BYTES
from core.service import LatentService

MAX_REQUEST_BYTES = 1024 * 1024 + 2 * MAX_IMAGE_BYTES
"""What the fields of a request take at the most, its two pictures included."""

SERVER_OPTIONS: list[tuple[str, Any]] = [
    # A stream is quiet while it waits and samples. Clients may then ping as often as every 10 s ...
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # ... and we ping every 30 s, so that a client that vanished without a word is noticed within a minute.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
    # The default of 4 MiB is less than two pictures take.
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    # Two servers on one port would share its connections: the second shall fail instead.
    ("grpc.so_reuseport", 0),
]


@dataclass(frozen=True, slots=True)
class GrpcServer:
    """A started server and the port it listens on."""

    server: grpc.aio.Server
    port: int

    async def stop(self) -> None:
        """Stop at once; whoever calls this has drained."""
        await self.server.stop(None)


async def start_grpc_server(service: LatentService, host: str, port: int, request_timeout_s: float) -> GrpcServer:
    """Start the server on `host`:`port` (0: a free one).

    Raises InvalidSettings when it cannot listen there.
    """
    server = grpc.aio.server(interceptors=[ErrorBoundary()], options=SERVER_OPTIONS)
    add_LatentServiceServicer_to_server(LatentServicer(service, request_timeout_s), server)
    health_pb2_grpc.add_HealthServicer_to_server(LifecycleHealth(service.lifecycle), server)
    health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    reflection.enable_server_reflection((*SERVICES[1:], health_name, reflection.SERVICE_NAME), server)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        raise InvalidSettings(f"gRPC cannot listen on {address}: in use, or not an address of this machine") from None
    await server.start()
    return GrpcServer(server, bound)
