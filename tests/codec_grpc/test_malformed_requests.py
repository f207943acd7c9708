"""Requests whose bytes are not protobuf messages, and pickling of the generated messages."""

import multiprocessing
import pickle
from typing import Any

import grpc.aio
import pytest

from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from tests.support.fake_engine import FakeEngine
from tests.support.logged_errors import logged_errors
from tests.support.serving import run_servers

METHODS = pb.DESCRIPTOR.services_by_name["LatentService"].methods_by_name


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\xff", b"\x0a\x05ab", b"\x00" * 9])
@pytest.mark.parametrize("method", sorted(METHODS))
async def test_malformed_request_is_invalid_argument_without_python_names(method: str, data: bytes) -> None:
    async with run_servers(FakeEngine()) as servers, grpc.aio.insecure_channel(servers.grpc_address) as channel:
        kind = "unary_stream" if METHODS[method].server_streaming else "unary_unary"
        call: Any = getattr(channel, kind)(f"/codec.latents.v1.LatentService/{method}")(data)
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        details = await call.details()
    assert details == f"request: is not a valid protobuf message ({len(data)} bytes)"


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\xff"])
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("grpc.health.v1.Health/Check", "unary_unary"),
        ("grpc.health.v1.Health/List", "unary_unary"),
        ("grpc.health.v1.Health/Watch", "unary_stream"),
        ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "stream_stream"),
        ("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "stream_stream"),
    ],
)
async def test_malformed_health_or_reflection_request_is_invalid_argument(
    path: str, kind: str, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with run_servers(FakeEngine()) as servers, grpc.aio.insecure_channel(servers.grpc_address) as channel:
        call: Any = getattr(channel, kind)(f"/{path}")(iter([data]) if kind.startswith("stream") else data)
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert await call.details() == f"request: is not a valid protobuf message ({len(data)} bytes)"
    assert logged_errors(caplog) == []


def prompt_of(request: pb.GenerateRequest) -> str:
    return request.prompt


@pytest.mark.slow
def test_generated_messages_can_be_pickled_and_sent_to_a_new_process() -> None:
    request = pb.GenerateRequest(prompt="a sea", pipeline="int8")
    assert pickle.loads(pickle.dumps(request)) == request
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(prompt_of, (request,)) == "a sea"
