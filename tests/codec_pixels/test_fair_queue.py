"""Batches of the device thread's queue: which calls run together, and in which order clients are served."""

import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from codec_pixels.device_thread import DeviceThread
from codec_pixels.fair_queue import BatchLimits, Call, FairQueue

NO_WINDOW = BatchLimits(4, 0.0)


class Recorder:
    """Records the items of every batch."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def run(self, items: Sequence[str]) -> None:
        self.batches.append(list(items))

    def call(self, item: str, key: str | None = "k", limits: BatchLimits = NO_WINDOW, memory: int = 0) -> Call:
        return Call(self.run, item, key, limits, memory)


def batches_of(queue: FairQueue) -> list[list[str]]:
    """Close `queue`, take all batches from it and return their items."""
    queue.close()
    found = []
    while calls := queue.take():
        found.append([call.item for call in calls])
    return found


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_calls_with_the_same_key_run_together_up_to_the_maximum(recorder: Recorder) -> None:
    queue = FairQueue()
    for number in range(6):
        queue.add("a", recorder.call(f"a{number}"))
    assert batches_of(queue) == [["a0", "a1", "a2", "a3"], ["a4", "a5"]]


def test_batch_takes_the_calls_of_clients_in_turn(recorder: Recorder) -> None:
    queue = FairQueue()
    for number in range(4):
        queue.add("greedy", recorder.call(f"g{number}"))
    queue.add("polite", recorder.call("p0"))
    queue.add("third", recorder.call("t0"))
    assert batches_of(queue) == [["g0", "p0", "t0", "g1"], ["g2", "g3"]]


def test_client_whose_call_does_not_fit_keeps_its_turn(recorder: Recorder) -> None:
    queue = FairQueue()
    for number in range(3):
        queue.add("a", recorder.call(f"a{number}"))
        queue.add("b", recorder.call(f"b{number}", "other"))
        queue.add("c", recorder.call(f"c{number}"))
    # Without batches, the order is a b c a b c. The batch of a and c must not contain two calls of a client.
    assert batches_of(queue)[:4] == [["a0", "c0"], ["b0"], ["a1", "c1"], ["b1"]]


def test_calls_of_a_client_keep_their_order(recorder: Recorder) -> None:
    queue = FairQueue()
    for item, key in (("a0", "k"), ("a1", None), ("a2", "k"), ("a3", "k")):
        queue.add("a", recorder.call(item, key))
    assert batches_of(queue) == [["a0"], ["a1"], ["a2", "a3"]]


def test_calls_without_a_key_and_with_a_size_of_one_run_alone(recorder: Recorder) -> None:
    queue = FairQueue()
    for number in range(2):
        queue.add("a", Call(recorder.run, f"a{number}"))
        queue.add("a", recorder.call(f"b{number}", limits=BatchLimits()))
    assert batches_of(queue) == [["a0"], ["b0"], ["a1"], ["b1"]]


def test_memory_of_a_batch_is_limited(recorder: Recorder) -> None:
    queue, limits = FairQueue(), BatchLimits(4, 10.0, max_memory=lambda: 100)
    for number in range(4):
        queue.add("a", recorder.call(f"a{number}", limits=limits, memory=45))
    assert batches_of(queue) == [["a0", "a1"], ["a2", "a3"]]


def test_cancelled_calls_are_left_out(recorder: Recorder) -> None:
    queue = FairQueue()
    calls = [recorder.call(f"a{number}") for number in range(6)]
    for call in calls:
        queue.add("a", call)
    assert calls[0].future.cancel()
    assert calls[2].future.cancel()
    assert batches_of(queue) == [["a1", "a3", "a4", "a5"]]


@pytest.fixture
def thread() -> Iterator[DeviceThread]:
    thread = DeviceThread()
    yield thread
    thread.shutdown(cancel_futures=True)


def test_first_call_waits_until_the_batch_is_full(thread: DeviceThread, recorder: Recorder) -> None:
    limits = BatchLimits(3, 30.0)
    futures: list[Future[Any]] = [thread.submit_call("a", recorder.call("a0", limits=limits))]
    assert thread.seconds_without_progress() == 0
    futures += [thread.submit_call("b", recorder.call(f"b{number}", limits=limits)) for number in range(2)]
    for future in futures:
        future.result(10)
    assert recorder.batches == [["a0", "b0", "b1"]]


def test_window_begins_when_the_call_is_submitted(recorder: Recorder) -> None:
    queue = FairQueue()
    submitted_at = time.monotonic() - 60
    call = Call(recorder.run, "a0", "k", BatchLimits(3, 50.0), submitted_at=submitted_at)
    queue.add("a", call)
    started_at = time.monotonic()
    assert queue.take() == [call]
    assert time.monotonic() - started_at < 20


def test_device_does_not_wait_while_another_call_waits(thread: DeviceThread, recorder: Recorder) -> None:
    future = thread.submit_call("a", recorder.call("a0", limits=BatchLimits(3, 30.0)))
    other = thread.submit_for("b", lambda: "done")
    future.result(10)
    assert other.result(10) == "done"
    assert recorder.batches == [["a0"]]


def test_shutdown_ends_the_window(recorder: Recorder) -> None:
    thread = DeviceThread()
    started_at = time.monotonic()
    future = thread.submit_call("a", recorder.call("a0", limits=BatchLimits(3, 30.0)))
    thread.shutdown()
    assert time.monotonic() - started_at < 20
    assert future.done()
    assert recorder.batches == [["a0"]]


def test_calls_after_shutdown_are_refused(recorder: Recorder) -> None:
    thread = DeviceThread()
    started, released = threading.Event(), threading.Event()

    def block(_items: Sequence[str]) -> None:
        started.set()
        released.wait(10)

    thread.submit_call("a", Call(block))
    assert started.wait(10)
    waiting = thread.submit_call("a", recorder.call("a1"))
    thread.shutdown(wait=False, cancel_futures=True)
    released.set()
    assert waiting.cancelled()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="after shutdown"):
            thread.submit_call("a", recorder.call("a2"))
    assert recorder.batches == []


def test_cancelled_call_is_not_kept_until_its_turn(thread: DeviceThread) -> None:
    released = threading.Event()
    thread.submit(released.wait, 10)

    class Item:
        pass

    item = Item()
    reference, call = weakref.ref(item), Call(lambda _items: None, item)
    thread.submit_call("a", call)
    thread.cancel_call("a", call)
    assert call.future.cancelled()
    del item, call
    assert reference() is None
    released.set()
    assert thread.submit_for("a", lambda: "done").result(10) == "done"


def test_calls_that_run_alone_leave_out_cancelled_calls(recorder: Recorder) -> None:
    queue = FairQueue()
    calls = [recorder.call(f"{client}{number}", limits=BatchLimits()) for number in range(2) for client in "ab"]
    for call in calls:
        queue.add(call.item[0], call)
    assert calls[0].future.cancel()
    assert batches_of(queue) == [["a1"], ["b0"], ["b1"]]


def test_failure_of_a_batch_reaches_every_call_that_has_not_completed(thread: DeviceThread) -> None:
    released = threading.Event()
    thread.submit(released.wait, 10)
    futures: list[Future[None]] = [Future(), Future()]

    def fail(items: Sequence[Future[None]]) -> None:
        items[0].set_result(None)
        raise ValueError("broken")

    for future in futures:
        thread.submit_call("a", Call(fail, future, "k", NO_WINDOW, future=future))
    released.set()
    assert futures[0].result(10) is None
    with pytest.raises(ValueError, match="broken"):
        futures[1].result(10)
