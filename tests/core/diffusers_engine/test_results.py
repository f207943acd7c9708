"""The queue from the device thread: order, and one wake-up for everything that is ready."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from core.diffusers_engine.results import ResultQueue


async def test_items_are_received_in_order_from_another_thread() -> None:
    results: ResultQueue[int] = ResultQueue()
    with ThreadPoolExecutor(1) as thread:
        for number in range(1000):
            thread.submit(results.put, number)
        assert [await results.get() for _ in range(1000)] == list(range(1000))
    assert results.is_empty()


async def test_item_without_wake_up_waits_for_the_next_one() -> None:
    results: ResultQueue[str] = ResultQueue()
    reader = asyncio.create_task(results.get())
    await asyncio.sleep(0)
    results.put("header", wake=False)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not reader.done()
    results.put("frame")
    assert await reader == "header"
    assert not results.is_empty()
    assert await results.get() == "frame"


async def test_cancelled_reader_loses_no_item() -> None:
    results: ResultQueue[int] = ResultQueue()
    reader = asyncio.create_task(results.get())
    await asyncio.sleep(0)
    results.put(1)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    assert await results.get() == 1


async def test_event_loop_wakes_up_once_for_several_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    wake, wake_ups = loop.call_soon_threadsafe, []

    def count_and_wake(function: Callable[[], object]) -> asyncio.Handle:
        wake_ups.append(function)
        return wake(function)

    monkeypatch.setattr(loop, "call_soon_threadsafe", count_and_wake)
    queues: list[ResultQueue[int]] = [ResultQueue() for _ in range(20)]
    readers = [asyncio.create_task(queue.get()) for queue in queues]
    await asyncio.sleep(0)
    with ThreadPoolExecutor(1) as thread:
        for number, queue in enumerate(queues):
            thread.submit(queue.put, number).result(10)  # the event loop is busy meanwhile
        assert len(wake_ups) == 1
        assert await asyncio.gather(*readers) == list(range(20))
        thread.submit(queues[0].put, 20).result(10)
        assert await queues[0].get() == 20
    assert len(wake_ups) == 2
