"""Calls that the event loop accepts late, because it was blocked, for example on an overloaded host."""

import asyncio
import time
from typing import Any

import grpc
import pytest

from codec_grpc.server import SERVER_OPTIONS
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceStub
from tests.support.serving import grpc_server

MAX_UNREQUESTED_TIME = "grpc.server_max_unrequested_time_in_server"
BLOCKED_S = 10
CALLS = 8


def statuses_of_calls(port: int) -> list[grpc.StatusCode]:
    """Make CALLS calls at once and return their statuses."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = LatentServiceStub(channel)
        calls = [stub.GetServerInfo.future(pb.GetServerInfoRequest(), timeout=60) for _ in range(CALLS)]
        return [call.code() for call in calls]


@pytest.mark.slow
async def test_calls_that_are_accepted_after_the_limit_are_cancelled() -> None:
    """This shows what the option of the server prevents; the next test checks the option."""
    async with grpc_server({MAX_UNREQUESTED_TIME: 1}) as server:
        calls = asyncio.create_task(asyncio.to_thread(statuses_of_calls, server.port))
        await asyncio.sleep(0)  # starts the thread
        time.sleep(BLOCKED_S)
        assert grpc.StatusCode.CANCELLED in await calls


def test_default_limit_is_far_above_the_30_s_of_grpc() -> None:
    assert dict(SERVER_OPTIONS)[MAX_UNREQUESTED_TIME] >= 600
