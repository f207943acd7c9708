"""What gRPC answers beside generations: what is served, health, reflection, pings."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from core.lifecycle import State
from core.pins import Provenance, installed_versions
from tests.support.fake_engine import FakeEngine
from tests.support.grpc_requests import request
from tests.support.serving import LATENT_SPACE, MODEL, run_servers


async def test_server_info_and_map() -> None:
    async with run_servers(FakeEngine()) as servers:
        info = await servers.stub.GetServerInfo(pb.GetServerInfoRequest())
        assert (info.codec_version, info.state, info.model.name) == ("0.3", pb.SERVER_STATE_SERVING, MODEL.name)
        assert dict(info.versions) == installed_versions()
        assert not info.HasField("image_digest")
        servers.service.provenance = Provenance.current(f"sha256:{'d' * 64}")
        assert (await servers.stub.GetServerInfo(pb.GetServerInfoRequest())).image_digest == f"sha256:{'d' * 64}"
        answer = await servers.stub.GetLatentMap(pb.GetLatentMapRequest(latent_space=LATENT_SPACE))
        bundle = servers.service.models.require_default().bundle
        assert (answer.hash, answer.document, dict(answer.assets)) == (bundle.hash, bundle.document, bundle.assets)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await servers.stub.GetLatentMap(pb.GetLatentMapRequest(latent_space="a/b"))
        assert caught.value.code() is StatusCode.NOT_FOUND


async def test_a_huge_name_is_not_said_back() -> None:
    async with run_servers(FakeEngine()) as servers:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await servers.stub.GetLatentMap(pb.GetLatentMapRequest(latent_space="x" * 1_000_000))
        assert caught.value.code() is StatusCode.NOT_FOUND
        assert len(str(caught.value.details())) < 300


async def test_health_follows_the_lifecycle_for_watchers_too() -> None:
    async with run_servers(FakeEngine()) as servers:
        stub: Any = health_pb2_grpc.HealthStub(servers.channel)
        for name in ("", "codec.latents.v1.LatentService"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        servers.service.lifecycle.transition_to(State.DRAINING)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()


async def test_a_client_reaches_generate_by_reflection_alone() -> None:
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
                answers = generate(outgoing(prompt="a sea", steps=1))
                return [str(answer.WhichOneof("event")) for answer in answers]

        assert await asyncio.to_thread(call_by_reflection) == ["header", "frame"]


async def test_pings_on_a_quiet_stream_are_welcome() -> None:
    """A client that pings as often as the server allows is not sent away: twelve seconds of silence, then a frame."""
    engine = FakeEngine()
    options = [
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    async with run_servers(engine) as servers, grpc.aio.insecure_channel(servers.grpc_address, options=options) as own:
        from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceStub

        stub: Any = LatentServiceStub(own)
        call = stub.Generate(request())
        await call.read()
        await asyncio.sleep(12)
        engine.release_steps(2)
        assert (await call.read()).frame.done
