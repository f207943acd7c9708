"""The queue for results that the device thread sends to the event loop."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

ItemT = TypeVar("ItemT")


class WakeUps:
    """Functions that threads ask an event loop to call, with one wake-up for all functions that wait to be called.

    A wake-up is a system call, during which the thread releases the interpreter lock. If the event loop is busy, it has
    often not yet handled the last wake-up when a thread asks for the next call.
    """

    def __init__(self) -> None:
        self._functions: deque[Callable[[], None]] = deque()
        self._is_requested = False

    def call(self, function: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        """Let `loop`, the event loop of this object, call `function`. This method may be called in any thread."""
        self._functions.append(function)
        if not self._is_requested:
            self._is_requested = True
            # The event loop is closed if the process exits during a generation.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._run)

    def _run(self) -> None:
        self._is_requested = False  # before the calls: a function that is added meanwhile may need another wake-up
        while self._functions:
            self._functions.popleft()()


_wake_ups: WeakKeyDictionary[asyncio.AbstractEventLoop, WakeUps] = WeakKeyDictionary()
"""Dictionary of the wake-ups of each event loop. The values do not refer to the loops, so that loops are freed."""


class ResultQueue(Generic[ItemT]):
    """A queue with one writing thread and one reading coroutine.

    The reader wakes up once for all items that are ready.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        wake_ups = _wake_ups.get(self._loop)
        if wake_ups is None:
            wake_ups = _wake_ups[self._loop] = WakeUps()
        self._wake_ups = wake_ups
        self._items: deque[ItemT] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._wake_up_requested = False

    def put(self, item: ItemT, *, wake: bool = True) -> None:
        """Append `item`.

        Call this method in the writing thread. If `wake` is False, the item does not wake the reader.
        """
        self._items.append(item)
        if wake and not self._wake_up_requested:
            self._wake_up_requested = True
            self._wake_ups.call(self._wake, self._loop)

    async def get(self) -> ItemT:
        """Wait for the next item and return the item. Call this method in the event loop."""
        while not self._items:
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self._items.popleft()

    def __len__(self) -> int:
        """Return the number of items that wait for the reader."""
        return len(self._items)

    def is_empty(self) -> bool:
        """Return whether the queue has no item, so that `get` would wait."""
        return not self._items

    def _wake(self) -> None:
        self._wake_up_requested = False
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
