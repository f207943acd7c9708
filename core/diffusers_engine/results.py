"""The queue for results that the device thread sends to the event loop."""

import asyncio
import contextlib
from collections import deque
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class ResultQueue(Generic[ItemT]):
    """A queue with one writing thread and one reading coroutine.

    The reader wakes up once for all items that are ready.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
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
            # The event loop is closed if the process exits during a generation.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake)

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
