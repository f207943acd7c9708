"""Server information, latent-space maps, health and reflection over gRPC."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from codec_grpc.configuration import configuration_of_service, health_service_of
from codec_grpc.health import SERVICES
from codec_grpc.server import SERVER_OPTIONS
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from core.lifecycle import State
from core.pins import Provenance, installed_versions
from tests.support.fake_engine import FakeEngine
from tests.support.serving import LATENT_SPACE, MODEL, grpc_server, run_servers


async def test_server_info_and_latent_map() -> None:
    async with run_servers(FakeEngine()) as servers:
        info = await servers.stub.GetServerInfo(pb.GetServerInfoRequest())
        assert (info.codec_version, info.state, info.model.name) == ("0.3", pb.SERVER_STATE_SERVING, MODEL.name)
        assert dict(info.versions) == installed_versions()
        assert not info.HasField("image_digest")
        servers.service.provenance = Provenance.current(f"sha256:{'d' * 64}")
        assert (await servers.stub.GetServerInfo(pb.GetServerInfoRequest())).image_digest == f"sha256:{'d' * 64}"
        response = await servers.stub.GetLatentMap(pb.GetLatentMapRequest(latent_space=LATENT_SPACE))
        bundle = servers.service.models.require_default().bundle
        assert (response.hash, response.document, dict(response.assets)) == (
            bundle.hash,
            bundle.document,
            bundle.assets,
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await servers.stub.GetLatentMap(pb.GetLatentMapRequest(latent_space="a/b"))
        assert caught.value.code() is StatusCode.NOT_FOUND


async def test_error_message_truncates_a_huge_name() -> None:
    async with run_servers(FakeEngine()) as servers:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await servers.stub.GetLatentMap(pb.GetLatentMapRequest(latent_space="x" * 60_000))
        assert caught.value.code() is StatusCode.NOT_FOUND
        assert len(str(caught.value.details())) < 300


async def test_health_of_all_services_can_be_listed() -> None:
    async with run_servers(FakeEngine()) as servers:
        stub: Any = health_pb2_grpc.HealthStub(servers.channel)
        request: Any = health_pb2.HealthListRequest()  # type: ignore[attr-defined]  # not in the stubs
        for state, name in ((State.SERVING, "SERVING"), (State.DRAINING, "NOT_SERVING")):
            servers.service.lifecycle.transition_to(state)
            statuses = (await stub.List(request)).statuses
            expected = health_pb2.HealthCheckResponse.ServingStatus.Value(name)
            names = (*SERVICES, health_service_of(str(configuration_of_service(servers.service))))
            assert {name: health.status for name, health in statuses.items()} == dict.fromkeys(names, expected)


async def test_health_follows_the_lifecycle_for_checks_and_watchers() -> None:
    async with run_servers(FakeEngine()) as servers:
        stub: Any = health_pb2_grpc.HealthStub(servers.channel)
        for name in ("", "codec.latents.v1.LatentService"):
            response = await stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert response.status == health_pb2.HealthCheckResponse.SERVING
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        servers.service.lifecycle.transition_to(State.DRAINING)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()


async def test_generate_can_be_called_by_reflection() -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:

        def call_by_reflection() -> list[str]:
            from google.protobuf import message_factory
            from google.protobuf.descriptor_pool import DescriptorPool

            with grpc.insecure_channel(servers.grpc_address) as channel:
                pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
                method = pool.FindServiceByName("codec.latents.v1.LatentService").FindMethodByName("Generate")
                outgoing = message_factory.GetMessageClass(method.input_type)
                incoming = message_factory.GetMessageClass(method.output_type)
                generate = channel.unary_stream(
                    "/codec.latents.v1.LatentService/Generate",
                    request_serializer=outgoing.SerializeToString,
                    response_deserializer=incoming.FromString,
                )
                responses = generate(outgoing(prompt="a sea", steps=1))
                return [str(response.WhichOneof("event")) for response in responses]

        assert await asyncio.to_thread(call_by_reflection) == ["header", "frame"]


async def test_connections_are_limited() -> None:
    assert 0 < dict(SERVER_OPTIONS)["grpc.max_allowed_incoming_connections"] <= 1024
    async with grpc_server({"grpc.max_allowed_incoming_connections": 2}) as server, asyncio.timeout(15):
        writers = []
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writers.append(writer)
            assert await reader.read(1)  # the server sends its settings first
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await reader.read() == b""
        for one in (*writers, writer):
            one.close()


async def test_connection_without_a_handshake_is_closed() -> None:
    # The time limit of the test is shorter than the server's default of 20 s.
    async with grpc_server({"grpc.server_handshake_timeout_ms": 200}) as server, asyncio.timeout(15):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await reader.read(1)
        await reader.read()  # until the server closes the connection
        writer.close()
