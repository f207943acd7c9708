"""The limit on request messages that are received at the same time, and the memory of requests that were refused."""

import asyncio
import gc

import grpc.aio
import pytest
from grpc import StatusCode

from codec_grpc import receptions
from codec_grpc.call import Call
from codec_grpc.receptions import MAX_RECEPTIONS, Receptions, ends_if_small, reception_of_call
from tests.support.fake_engine import FakeEngine
from tests.support.grpc_requests import request
from tests.support.serving import Servers, run_servers


@pytest.fixture(autouse=True)
def no_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit would also end receptions that the tested code does not end."""
    monkeypatch.setattr(receptions, "MAX_TIME_S", 3600)


async def all_but_one_begun(
    limited: Receptions,
) -> tuple[list[receptions.Reception], "asyncio.Task[receptions.Reception]"]:
    """Begin MAX_RECEPTIONS receptions and return them, and a task that waits for another one."""
    begun = [await limited.begin() for _ in range(MAX_RECEPTIONS)]
    waiting = asyncio.create_task(limited.begin())
    await asyncio.sleep(0)
    assert not waiting.done()
    return begun, waiting


async def test_call_waits_until_another_message_is_no_longer_counted() -> None:
    limited = Receptions()
    begun, waiting = await all_but_one_begun(limited)
    begun[0].end()
    begun[0].end()  # has no effect
    another = asyncio.create_task(limited.begin())
    async with asyncio.timeout(10):
        await waiting
        assert not another.done()
        (await waiting).end()
        (await another).end()
    begun[1].end()
    for reception in [await limited.begin() for _ in range(MAX_RECEPTIONS)]:
        reception.end()


async def test_slow_client_does_not_exclude_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receptions, "MAX_TIME_S", 0.01)
    _, waiting = await all_but_one_begun(Receptions())
    async with asyncio.timeout(10):
        (await waiting).end()


@pytest.mark.parametrize("has_turn", [False, True])
async def test_cancelled_call_does_not_keep_its_place(has_turn: bool) -> None:
    limited = Receptions()
    begun, waiting = await all_but_one_begun(limited)
    another = asyncio.create_task(limited.begin())
    await asyncio.sleep(0)
    if has_turn:
        begun[0].end()
    waiting.cancel()
    begun[0].end()  # has no effect if it has ended
    async with asyncio.timeout(10):
        (await another).end()
    assert waiting.cancelled()


async def test_message_counts_until_it_is_complete_only_if_it_is_small() -> None:
    limited = Receptions()
    begun, waiting = await all_but_one_begun(limited)
    reception_of_call.set(begun[0])
    assert ends_if_small(len)(bytes(receptions.SMALL_BYTES + 1)) == receptions.SMALL_BYTES + 1
    await asyncio.sleep(0)
    assert not waiting.done()
    ends_if_small(len)(bytes(receptions.SMALL_BYTES))
    async with asyncio.timeout(10):
        (await waiting).end()


async def refused(servers: Servers, size: int) -> StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await servers.stub.Generate(request(image=bytes(size))).read()
    return caught.value.code()


async def test_many_large_messages_at_once_are_all_answered() -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers, asyncio.timeout(60):
        large = [refused(servers, 2**20) for _ in range(10)]
        small = [servers.stub.Generate(request()).read() for _ in range(10)]
        statuses = await asyncio.gather(*large)
        assert set(statuses) == {StatusCode.INVALID_ARGUMENT}
        assert all(message.HasField("header") for message in await asyncio.gather(*small))


async def test_refused_request_is_freed_without_garbage_collection() -> None:
    async with run_servers(FakeEngine()) as servers:
        gc.collect()
        gc.disable()
        try:
            assert await refused(servers, 100) is StatusCode.INVALID_ARGUMENT
            async with asyncio.timeout(10):
                # Call is a local variable of the frames that have the request.
                while any(type(found) is Call for found in gc.get_objects()):
                    await asyncio.sleep(0.05)
        finally:
            gc.enable()
