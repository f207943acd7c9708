"""Limits on the connections of the gRPC server, and on the calls of one connection."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from bench.attack_http2 import PREFACE, SETTINGS, frame
from codec_grpc.server import MAX_STREAMS, SERVER_OPTIONS
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceStub
from tests.support.fake_engine import FakeEngine
from tests.support.serving import grpc_server, run_servers


async def settings_of(port: int) -> dict[int, int]:
    """Return the HTTP/2 settings that the server sends (RFC 9113, 6.5)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    header = await reader.readexactly(9)
    payload = await reader.readexactly(int.from_bytes(header[:3], "big"))
    writer.close()
    pairs = [payload[start : start + 6] for start in range(0, len(payload), 6)]
    return {int.from_bytes(pair[:2], "big"): int.from_bytes(pair[2:], "big") for pair in pairs}


@pytest.mark.parametrize(("max_jobs", "expected"), [(32, MAX_STREAMS), (MAX_STREAMS, 2 * MAX_STREAMS)])
async def test_active_calls_of_a_connection_are_limited(max_jobs: int, expected: int) -> None:
    async with run_servers(FakeEngine(), max_jobs=max_jobs) as servers, asyncio.timeout(15):
        max_concurrent_streams = 3
        assert (await settings_of(int(servers.grpc_address.split(":")[1])))[max_concurrent_streams] == expected


async def test_connection_without_calls_is_closed_and_a_client_connects_again() -> None:
    assert 0 < dict(SERVER_OPTIONS)["grpc.max_connection_idle_ms"] <= 600_000
    async with (
        grpc_server({"grpc.max_connection_idle_ms": 100}) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        asyncio.timeout(30),
    ):
        stub: Any = LatentServiceStub(channel)
        for _ in range(2):
            await stub.GetServerInfo(pb.GetServerInfoRequest())
            while (state := channel.get_state()) is not grpc.ChannelConnectivity.IDLE:
                await channel.wait_for_state_change(state)


async def test_idle_clients_make_room_for_others() -> None:
    options = {"grpc.max_allowed_incoming_connections": 2, "grpc.max_connection_idle_ms": 100}
    async with grpc_server(options) as server, asyncio.timeout(60):
        idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        for _, writer in idle:
            writer.write(PREFACE + frame(SETTINGS))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub: Any = LatentServiceStub(channel)
            await stub.GetServerInfo(pb.GetServerInfoRequest(), wait_for_ready=True)
        for _, writer in idle:
            writer.close()
