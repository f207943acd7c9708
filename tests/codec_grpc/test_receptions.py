"""The limits on request messages that are received at the same time."""

import asyncio

import pytest
from grpc.aio import EOF

from codec_grpc import receptions
from codec_grpc.receptions import MAX_REQUEST_BYTES, MAX_TURNS, SMALL_BYTES, Reception, Receptions
from codec_wire.errors import Overloaded, RequestTimeout
from core.request_memory import RequestMemory

LIMIT = 8 * MAX_REQUEST_BYTES


@pytest.fixture
def turns_end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receptions, "TURN_S", 0.001)
    monkeypatch.setattr(receptions, "PATIENCE_S", 0.002)


@pytest.fixture
def turns_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receptions, "TURN_S", 3600)


@pytest.fixture
def memory() -> RequestMemory:
    return RequestMemory(LIMIT, lambda: 1)


async def never() -> bytes:
    await asyncio.get_running_loop().create_future()
    return b""


def message_of(size: int) -> "asyncio.Future[bytes]":
    future = asyncio.get_running_loop().create_future()
    future.set_result(bytes(size))
    return future


async def begin(limited: Receptions, client: str) -> Reception:
    """Begin a reception. The time limit only ends the test after a regression."""
    async with asyncio.timeout(30):
        return await limited.begin(client)


async def begin_all(limited: Receptions, client: str = "a") -> list[Reception]:
    """Begin as many receptions as there are turns."""
    return [await begin(limited, client) for _ in range(MAX_TURNS)]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_call_waits_for_a_turn(memory: RequestMemory) -> None:
    limited = Receptions(memory)
    begun = await begin_all(limited)
    first, second = (asyncio.create_task(begin(limited, "a")) for _ in range(2))
    await settle()
    assert not first.done()
    begun[0].end()
    begun[0].end()  # has no effect
    (await first).end()
    (await second).end()
    begun[1].end()
    for reception in await begin_all(limited):
        reception.end()


async def test_clients_take_turns(memory: RequestMemory) -> None:
    limited = Receptions(memory)
    begun = await begin_all(limited)
    order: list[str] = []

    async def call(client: str) -> None:
        reception = await begin(limited, client)
        order.append(client)
        reception.end()

    calls = [asyncio.create_task(call(client)) for client in "aaaabbc"]
    await settle()
    for reception in begun:
        reception.end()
    await asyncio.gather(*calls)
    assert order[:5] == ["a", "b", "c", "a", "b"]


@pytest.mark.parametrize("has_turn", [False, True])
async def test_cancelled_call_does_not_keep_its_place(memory: RequestMemory, has_turn: bool) -> None:
    limited = Receptions(memory)
    begun = await begin_all(limited)
    waiting, another = (asyncio.create_task(begin(limited, "a")) for _ in range(2))
    await settle()
    if has_turn:
        begun[0].end()
    waiting.cancel()
    begun[0].end()  # has no effect if it has ended
    (await another).end()
    assert waiting.cancelled()


async def test_too_many_waiting_calls_are_refused(memory: RequestMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receptions, "MAX_WAITING", 2)
    limited = Receptions(memory)
    await begin_all(limited)
    waiting = [asyncio.create_task(begin(limited, "a")) for _ in range(2)]
    await settle()
    with pytest.raises(Overloaded, match="2 other calls wait"):
        await begin(limited, "a")
    waiting.append(asyncio.create_task(begin(limited, "another client")))
    await settle()
    assert not any(call.done() for call in waiting)


@pytest.mark.usefixtures("turns_last")
async def test_only_a_large_message_counts_until_the_end(memory: RequestMemory) -> None:
    limited = Receptions(memory)
    first, second = await begin_all(limited)
    waiting = asyncio.create_task(begin(limited, "a"))
    assert await first.receive(lambda: message_of(SMALL_BYTES + 1)) == bytes(SMALL_BYTES + 1)
    await settle()
    assert not waiting.done()
    assert await second.receive(lambda: message_of(SMALL_BYTES)) == bytes(SMALL_BYTES)
    await waiting


async def end_of_messages() -> object:
    return EOF


@pytest.mark.usefixtures("turns_last")
async def test_end_of_the_messages_ends_the_reception(memory: RequestMemory) -> None:
    limited = Receptions(memory)
    for _ in range(3 * MAX_TURNS):
        assert await (await begin(limited, "a")).receive(end_of_messages) is None


@pytest.mark.usefixtures("turns_end_at_once")
async def test_slow_reception_reserves_memory_instead_of_a_turn(memory: RequestMemory) -> None:
    limited = Receptions(memory)
    slow = [asyncio.create_task(reception.receive(never)) for reception in await begin_all(limited)]
    reception = await begin(limited, "b")
    assert memory.used == MAX_REQUEST_BYTES
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    reception.end()


@pytest.mark.usefixtures("turns_end_at_once")
async def test_memory_of_a_slow_reception_is_free_at_its_end(memory: RequestMemory) -> None:
    limited = Receptions(memory)
    first, second = await begin_all(limited)
    message = asyncio.get_running_loop().create_future()
    tasks = [asyncio.create_task(one.receive(lambda: message)) for one in (first, second)]
    third = await begin(limited, "b")
    message.set_result(bytes(SMALL_BYTES + 1))
    await asyncio.gather(*tasks)
    assert memory.used == MAX_REQUEST_BYTES
    for reception in (first, second, third):
        reception.end()
    assert memory.used == 0
    for reception in await begin_all(limited):
        reception.end()


@pytest.mark.usefixtures("turns_last")
async def test_message_keeps_its_turn_while_no_other_call_waits(memory: RequestMemory) -> None:
    limited = Receptions(memory)
    message = asyncio.get_running_loop().create_future()
    reception = await begin(limited, "a")
    task = asyncio.create_task(reception.receive(lambda: message))
    await settle()
    reception._end_turn_if_needed()
    assert memory.used == 0
    message.set_result(b"x")
    assert await task == b"x"


@pytest.mark.usefixtures("turns_end_at_once")
async def test_client_may_use_half_of_the_memory_for_slow_receptions(memory: RequestMemory) -> None:
    limited = Receptions(memory)

    async def send_slowly(client: str) -> None:
        reception = await begin(limited, client)
        try:
            await reception.receive(never)
        finally:
            reception.end()

    greedy = [asyncio.create_task(send_slowly("greedy")) for _ in range(20)]
    _, running = await asyncio.wait(greedy, return_when=asyncio.FIRST_COMPLETED)
    polite = await begin(limited, "polite")  # the first calls that are refused free their turns
    assert memory.used <= LIMIT // 2
    assert await polite.receive(lambda: message_of(MAX_REQUEST_BYTES)) is not None
    polite.end()
    async with asyncio.timeout(30):
        while len(running) > LIMIT // 2 // MAX_REQUEST_BYTES + MAX_TURNS:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            assert all(isinstance(task.exception(), Overloaded) for task in done)
    for task in running:
        task.cancel()
    await asyncio.gather(*greedy, return_exceptions=True)
    assert memory.used == 0


@pytest.mark.usefixtures("turns_end_at_once")
async def test_slow_reception_without_memory_is_refused() -> None:
    limited = Receptions(None)
    (first, _) = await begin_all(limited)
    waiting = asyncio.create_task(begin(limited, "b"))
    with pytest.raises(Overloaded, match="other calls wait"):
        await first.receive(never)
    first.end()
    await waiting


async def test_message_that_is_never_complete_is_a_request_timeout(
    memory: RequestMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receptions, "RECEIVE_TIMEOUT_S", 0.01)
    reception = await begin(Receptions(memory), "a")
    with pytest.raises(RequestTimeout, match=r"within 0\.01 s"):
        await reception.receive(never)


async def receive_all(limited: Receptions, client: str = "a") -> tuple[list[Reception], list["asyncio.Task[object]"]]:
    """Begin as many receptions as there are turns, and wait for their messages, which are never sent."""
    begun = await begin_all(limited, client)

    async def receive(reception: Reception) -> None:
        try:
            await reception.receive(never)
        finally:
            reception.end()

    tasks: list[asyncio.Task[object]] = [asyncio.create_task(receive(reception)) for reception in begun]
    await settle()
    return begun, tasks


async def stop(*tasks: "asyncio.Task[object]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.usefixtures("turns_last")
async def test_slow_reception_keeps_its_turn_until_memory_is_available(memory: RequestMemory) -> None:
    limited = Receptions(memory)
    (first, _), tasks = await receive_all(limited)
    waiting = asyncio.create_task(begin(limited, "b"))
    await settle()
    with memory.reserve(LIMIT):
        first._end_turn_if_needed()
        await settle()
        assert not waiting.done()
        assert not tasks[0].done()
    first._end_turn_if_needed()
    (await waiting).end()
    assert memory.used == MAX_REQUEST_BYTES
    await stop(*tasks)
    assert memory.used == 0


@pytest.mark.usefixtures("turns_last")
async def test_slow_reception_without_memory_is_refused_after_a_longer_time(
    memory: RequestMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receptions, "PATIENCE_S", 0)
    limited = Receptions(memory)
    (first, _), (refused, other) = await receive_all(limited)
    waiting = asyncio.create_task(begin(limited, "b"))
    await settle()
    with memory.reserve(LIMIT):
        first._end_turn_if_needed()
        with pytest.raises(Overloaded, match="other requests use"):
            await refused
    (await waiting).end()
    await stop(other)


@pytest.mark.usefixtures("turns_last")
@pytest.mark.parametrize("other", ["a", "b"])
async def test_client_at_its_limit_of_slow_receptions_delays_only_itself(other: str) -> None:
    limited = Receptions(RequestMemory(3 * MAX_REQUEST_BYTES, lambda: 1))
    (first, second), tasks = await receive_all(limited)
    for reception in (first, second):
        waiting = asyncio.create_task(begin(limited, other))
        await settle()
        reception._end_turn_if_needed()
        await settle()
        if reception is first:
            await waiting
    assert not waiting.done() if other == "a" else waiting.done()
    assert tasks[1].done() == (other == "b")
    await stop(*tasks, waiting)


@pytest.mark.usefixtures("turns_last")
async def test_call_gets_the_turn_of_the_oldest_overdue_reception_at_once(memory: RequestMemory) -> None:
    limited = Receptions(memory)
    (first, second), tasks = await receive_all(limited)
    for reception in (second, first):
        reception._end_turn_if_needed()
    assert memory.used == 0
    (await begin(limited, "b")).end()
    assert memory.used == MAX_REQUEST_BYTES
    await stop(tasks[0])  # the first reception has a turn, the second one is slow
    assert memory.used == MAX_REQUEST_BYTES
    await stop(tasks[1])
    assert memory.used == 0


@pytest.mark.usefixtures("turns_last")
async def test_call_gets_the_turn_of_another_reception_if_the_oldest_has_no_memory() -> None:
    limited = Receptions(RequestMemory(3 * MAX_REQUEST_BYTES, lambda: 1))
    (_, second), tasks = await receive_all(limited)
    second._end_turn_if_needed()
    third = await begin(limited, "a")  # "a" has reserved the memory of a slow reception
    tasks.append(asyncio.create_task(third.receive(never)))
    await settle()
    third._end_turn_if_needed()
    waiting = asyncio.create_task(begin(limited, "a"))
    await settle()
    assert not waiting.done()  # the third reception keeps its turn
    await stop(*tasks)
    await waiting


@pytest.mark.usefixtures("turns_last")
async def test_call_refuses_only_one_overdue_reception() -> None:
    limited = Receptions(None)
    begun, (first, second) = await receive_all(limited)
    for reception in begun:
        reception._end_turn_if_needed()
    (await begin(limited, "b")).end()
    with pytest.raises(Overloaded, match="other calls wait"):
        await first
    await settle()
    assert not second.done()
    await stop(second)


@pytest.mark.usefixtures("turns_last")
async def test_ended_reception_is_not_overdue(memory: RequestMemory) -> None:
    limited = Receptions(memory)
    (first, _), tasks = await receive_all(limited)
    first._end_turn_if_needed()
    await stop(tasks[0])
    (await begin(limited, "b")).end()
    assert memory.used == 0
    await stop(*tasks)
