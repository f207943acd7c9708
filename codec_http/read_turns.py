"""Turns in which clients send large request bodies, so that the large bodies do not delay other requests."""

import asyncio
from collections import deque
from typing import Protocol

MAX_PIECE_BYTES = 64 * 1024
"""Maximum number of bytes that the server receives from a connection at once."""
LARGE_PIECE_BYTES = 16 * 1024
"""Minimum size in bytes of a large piece of data.

A connection that has received a large piece must wait for its turn.
"""


class Reader(Protocol):
    """A connection that can wait for its turn to receive data."""

    def resume_turn(self) -> None:
        """Receive data again, because it is this connection's turn."""


class ReadTurns:
    """A queue of connections that have received a large piece of data and wait for their turn to receive more.

    Without turns, the event loop would read a piece of data from every client that sends a large body before each step
    of a small request. With turns, only one connection of the queue may continue in each iteration of the event loop.
    While a connection waits for its turn, the operating system stops the client of the connection from sending. A slow
    client does not hold up the queue, because a connection leaves the queue when its turn comes.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue = deque[Reader]()

    def wait(self, reader: Reader) -> None:
        """Add `reader` to the end of the queue."""
        self._queue.append(reader)
        if len(self._queue) == 1:
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        reader = self._queue.popleft()
        if self._queue:
            self._loop.call_soon(self._next)
        reader.resume_turn()
