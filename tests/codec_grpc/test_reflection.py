"""Server reflection in the versions v1 and v1alpha."""

import grpc.aio
import pytest
from grpc_reflection.v1alpha import reflection_pb2

from tests.support.fake_engine import FakeEngine
from tests.support.serving import run_servers


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_services_and_describes_generate(version: str) -> None:
    async with run_servers(FakeEngine()) as servers, grpc.aio.insecure_channel(servers.grpc_address) as channel:
        call = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        requests = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="codec.latents.v1.LatentService"),
            reflection_pb2.ServerReflectionRequest(
                file_containing_symbol=f"grpc.reflection.{version}.ServerReflection"
            ),
        ]
        listed, described, itself = [response async for response in call(iter(requests))]
    names = {service.name for service in listed.list_services_response.service}
    expected = {"codec.latents.v1.LatentService", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"}
    assert expected | {"grpc.reflection.v1alpha.ServerReflection"} <= names
    assert described.file_descriptor_response.file_descriptor_proto
    assert itself.file_descriptor_response.file_descriptor_proto
