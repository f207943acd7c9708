"""The queue of the device thread: clients are served in turn, and calls that fit together are run as one batch."""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, eq=False)
class BatchLimits:
    """Limits of a batch: how many calls run together, and how long the first call waits for other calls.

    `size` is the maximum number of calls in a batch; 1 means that each call runs alone. If the device is idle, a call
    waits for other calls until `window_s` seconds after the submission of the waiting call. The function `max_memory`
    returns the maximum sum of `Call.memory` in a batch, in bytes. If `max_memory` returns None, the sum is not limited.
    """

    size: int = 1
    window_s: float = 0.0
    max_memory: Callable[[], int | None] = lambda: None


ALONE = BatchLimits()


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A call that waits for the device thread.

    The function `run` is called with a list that contains the `item` of every call in the batch. Calls with the same
    `key` may run as one batch, within the `limits` of the first call. A call without a key runs alone. `memory` is the
    device memory that the call needs, in bytes. The function `run` may complete the `future` of a call. If `run` does
    not complete the `future` of a call in the batch, this future gets the result of `run`.
    """

    run: Callable[[Sequence[Any]], Any]
    item: Any = None
    key: Hashable = None
    limits: BatchLimits = ALONE
    memory: int = 0
    future: Future[Any] = field(default_factory=Future)
    submitted_at: float = field(default_factory=time.monotonic)


class FairQueue:
    """Queue of calls that serves clients in turn, one call at a time.

    The calls of each client keep the order in which the client submitted the calls.

    A batch is filled in rounds. In each round, every client adds its next call to the batch. If the next call of a
    client does not fit into the batch, the client is skipped and keeps its turn. The round in which a client is skipped
    is the last round. No client adds another call to the batch while a skipped client waits.
    """

    def __init__(self) -> None:
        self._calls: dict[str, deque[Call]] = {}
        """The waiting calls of each client, in the order of the clients' turns. A client without waiting calls has no
        entry."""
        self._changed = threading.Condition()
        self._closed = False

    def add(self, client: str, call: Call) -> None:
        """Append `call` to the waiting calls of `client`. Raises RuntimeError after a call of `close`."""
        with self._changed:
            if self._closed:
                raise RuntimeError("cannot schedule a call after shutdown")
            self._calls.setdefault(client, deque()).append(call)
            self._changed.notify()

    def is_empty(self) -> bool:
        """Return whether no call is waiting. This method does not wait for the lock of the queue."""
        return not self._calls

    def take(self) -> list[Call]:
        """Wait for the next batch; remove and return it, without cancelled calls.

        If the batch is not full, wait for more calls within the limits of the first call in the batch. If another call
        that does not fit into the batch is queued, return the batch immediately. If the queue is closed and no call is
        waiting, return an empty list.
        """
        with self._changed:
            while self._calls or not self._closed:
                if not self._calls:
                    self._changed.wait()
                    continue
                call = self._take_call_that_runs_alone()
                if call is not None:
                    return [call]
                self._discard_cancelled()
                chosen, is_blocked = self._choose()
                if not chosen:
                    continue
                limits = chosen[0][1].limits
                wait_s = chosen[0][1].submitted_at + limits.window_s - time.monotonic()
                if len(chosen) < limits.size and not is_blocked and wait_s > 0 and not self._closed:
                    self._changed.wait(wait_s)
                    continue
                for client, _ in chosen:
                    self._end_turn(client)
                taken = [call for _, call in chosen if call.future.set_running_or_notify_cancel()]
                if taken:
                    return taken
            return []

    def discard(self, client: str, call: Call) -> None:
        """Remove the cancelled call `call` of `client` if the call is still waiting.

        Without `discard`, the method `take` would remove the cancelled call later.
        """
        with self._changed:
            calls = self._calls.get(client, ())
            if call in calls:
                self._remove(client, call)

    def close(self) -> None:
        """Refuse more calls, and make `take` return the waiting calls without waiting for more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def clear(self) -> list[Call]:
        """Remove and return all waiting calls."""
        with self._changed:
            calls = [call for waiting in self._calls.values() for call in waiting]
            self._calls.clear()
            return calls

    def _take_call_that_runs_alone(self) -> Call | None:
        """Remove and return the next call if its limits do not allow a batch. Otherwise return None.

        The running time of this method does not depend on the number of waiting calls. Cancelled calls before the next
        call are removed.
        """
        while self._calls:
            client, calls = next(iter(self._calls.items()))
            call = calls[0]
            if call.future.cancelled():
                self._remove(client, call)
            elif call.limits.size > 1:
                return None
            else:
                self._end_turn(client)
                if call.future.set_running_or_notify_cancel():
                    return call
        return None

    def _choose(self) -> tuple[list[tuple[str, Call]], bool]:
        """Return the next batch as a list of pairs (client, call), and whether a client was skipped."""
        chosen: list[tuple[str, Call]] = []
        memory, is_blocked, depth = 0, False, 0
        while not is_blocked:
            found = [(client, calls[depth]) for client, calls in self._calls.items() if len(calls) > depth]
            if not found:
                break
            for client, call in found:
                if chosen and not _fits(call, chosen[0][1], memory):
                    is_blocked = True
                    continue
                chosen.append((client, call))
                memory += call.memory
                if len(chosen) == chosen[0][1].limits.size:
                    return chosen, is_blocked
            depth += 1
        return chosen, is_blocked

    def _end_turn(self, client: str) -> None:
        """Remove the next call of `client`, and move the client behind all other clients."""
        calls = self._calls.pop(client)
        calls.popleft()
        if calls:
            self._calls[client] = calls

    def _discard_cancelled(self) -> None:
        for client, calls in list(self._calls.items()):
            for call in [call for call in calls if call.future.cancelled()]:
                self._remove(client, call)

    def _remove(self, client: str, call: Call) -> None:
        """Remove the cancelled `call` of `client`. The client keeps its turn."""
        calls = self._calls[client]
        calls.remove(call)
        if not calls:
            del self._calls[client]
        call.future.set_running_or_notify_cancel()


def _fits(call: Call, first: Call, memory: int) -> bool:
    """Return whether `call` may join a batch whose first call is `first` and whose calls need `memory` bytes."""
    limit = first.limits.max_memory()
    has_memory = limit is None or memory + call.memory <= limit
    return call.key is not None and call.key == first.key and has_memory
