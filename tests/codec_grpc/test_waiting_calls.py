"""The order in which waiting calls get turns, and health checks during many calls that send nothing."""

import asyncio
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from codec_grpc import receptions
from codec_grpc.receptions import MAX_TURNS, Reception, Receptions
from codec_grpc.waiting_calls import WaitingCalls
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceStub
from tests.support.fake_engine import FakeEngine
from tests.support.serving import run_servers

WATCH = "/grpc.health.v1.Health/Watch"


async def order_of(waiting: WaitingCalls, clients: str) -> str:
    """Return the order in which calls of `clients`, each a letter, get turns. They begin to wait in this order."""
    turns = [(client, waiting.add(client)) for client in clients]
    order = ""
    while waiting.give_turn():
        [ended] = [turn for turn in turns if turn[1].done()]
        turns.remove(ended)
        order += ended[0]
    return order


@pytest.mark.parametrize(("clients", "expected"), [("aaaabbc", "abcabaa"), ("abc", "abc"), ("", "")])
async def test_clients_take_turns(clients: str, expected: str) -> None:
    assert await order_of(WaitingCalls(), clients) == expected


@pytest.mark.parametrize(
    ("clients", "expected"), [("aaaabbc", "cababaa"), ("abcdef", "faebdc"), ("abab", "baba"), ("", "")]
)
async def test_every_second_turn_goes_to_the_newest_client_without_a_turn(clients: str, expected: str) -> None:
    assert await order_of(WaitingCalls(prefers_new=True), clients) == expected


async def test_client_that_begins_to_wait_gets_one_of_the_next_two_turns() -> None:
    waiting = WaitingCalls(prefers_new=True)
    silent = [waiting.add(client) for client in "abcdefgh" * 5]
    for _ in range(11):
        for _ in range(2):
            assert waiting.give_turn()
        new = waiting.add("new")
        assert waiting.give_turn()
        assert waiting.give_turn()
        assert new.done()
    assert sum(turn.done() for turn in silent) == 33


@pytest.mark.parametrize("prefers_new", [False, True])
async def test_cancelled_call_gets_no_turn(prefers_new: bool) -> None:
    waiting = WaitingCalls(prefers_new=prefers_new)
    first, second, third = (waiting.add(client) for client in "aab")
    waiting.discard("a", first)
    third.cancel()  # it is not discarded yet
    assert len(waiting) == 2
    assert waiting.give_turn()
    assert second.done()
    assert not first.done()
    assert not waiting.give_turn()
    assert not waiting


async def health_check(channel: grpc.aio.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    response = await stub.Check(health_pb2.HealthCheckRequest())
    assert response.status == health_pb2.HealthCheckResponse.SERVING


async def server_info(channel: grpc.aio.Channel) -> None:
    stub: Any = LatentServiceStub(channel)
    assert (await stub.GetServerInfo(pb.GetServerInfoRequest())).model.name == "tiny-sd"


@pytest.mark.parametrize("call", [health_check, server_info])
async def test_small_call_does_not_wait_for_many_clients_that_send_nothing(
    call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections, calls = 20, 10
    begun = asyncio.Semaphore(0)
    begin = Receptions.begin

    async def counted_begin(self: Receptions, client: str) -> Reception:
        begun.release()
        return await begin(self, client)

    monkeypatch.setattr(Receptions, "begin", counted_begin)
    monkeypatch.setattr(receptions, "TURN_S", 3600)  # turns end only if a client cancels its call
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with asyncio.timeout(60), run_servers(FakeEngine()) as servers:
        channels = [grpc.aio.insecure_channel(servers.grpc_address, options=options) for _ in range(connections)]
        holders: list[Any] = []
        for number in range(connections * calls):
            channel: Any = channels[number % connections]
            silent = channel.stream_stream(WATCH)()
            if number < MAX_TURNS:
                holders.append(silent)
                await begun.acquire()
        for _ in range(connections * calls - MAX_TURNS):
            await begun.acquire()
        small = asyncio.create_task(call(servers.channel))
        await begun.acquire()
        assert not small.done()
        for holder in holders:  # two turns end
            holder.cancel()
        await small
        for channel in channels:
            await channel.close()
