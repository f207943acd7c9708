"""Calls that the event loop accepts late, because it was blocked, for example on an overloaded host."""

import asyncio
import time
from typing import Any

import grpc
import pytest

from codec_grpc.server import SERVER_OPTIONS, start_grpc_server
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceStub
from core.admission import Admission
from core.lifecycle import Lifecycle
from core.service import LatentService

MAX_UNREQUESTED_TIME = "grpc.server_max_unrequested_time_in_server"
BLOCKED_S = 2.5
CALLS = 8


def statuses_of_calls(port: int) -> list[grpc.StatusCode]:
    """Make CALLS calls at once and return their statuses."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = LatentServiceStub(channel)
        calls = [stub.GetServerInfo.future(pb.GetServerInfoRequest(), timeout=60) for _ in range(CALLS)]
        return [call.code() for call in calls]


@pytest.mark.parametrize("limit_s", [None, 1])
async def test_calls_are_served_after_the_event_loop_was_blocked(limit_s: int | None) -> None:
    """The case with a limit of 1 s shows that the default would matter: gRPC cancels calls that are accepted later."""
    options = dict(SERVER_OPTIONS) | ({} if limit_s is None else {MAX_UNREQUESTED_TIME: limit_s})
    service = LatentService(Lifecycle(), Admission(32, 10**12))
    server = await start_grpc_server(service, "127.0.0.1", 0, 60, options=list(options.items()))
    calls = asyncio.create_task(asyncio.to_thread(statuses_of_calls, server.port))
    await asyncio.sleep(0)  # starts the thread
    time.sleep(BLOCKED_S)
    statuses = set(await calls)
    await server.stop()
    assert statuses <= {grpc.StatusCode.OK, grpc.StatusCode.CANCELLED}
    assert (grpc.StatusCode.CANCELLED in statuses) == (limit_s is not None)


def test_default_limit_is_far_above_the_30_s_of_grpc() -> None:
    assert dict(SERVER_OPTIONS)[MAX_UNREQUESTED_TIME] >= 600
