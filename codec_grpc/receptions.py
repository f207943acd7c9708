"""A limit on the number of large request messages that are received at the same time.

gRPC stores a message until it is complete, and does not report its size before. Therefore, core.request_memory cannot
count messages that are being received.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

MAX_RECEPTIONS = 2
"""Maximum number of messages that are received at the same time."""
MAX_TIME_S = 1.0
"""Time in seconds after which a message is not counted any more, if no other call waits."""
SMALL_BYTES = 64 * 1024
"""Size of a message up to which the call is not counted any more as soon as the message is complete."""


class Reception:
    """One of the messages that are being received."""

    __slots__ = ("_receptions", "_timer")

    def __init__(self, receptions: "Receptions", max_time_s: float) -> None:
        self._receptions: Receptions | None = receptions
        self._timer = asyncio.get_running_loop().call_later(max_time_s, self.end)

    def end(self) -> None:
        """Let the next call receive its message. Further calls of this method have no effect."""
        if self._receptions is not None:
            receptions, self._receptions = self._receptions, None
            self._timer.cancel()
            receptions._end_one()


class Receptions:
    """The calls that receive a message, and the queue of calls that wait.

    HTTP/2 stops the client of a call that waits. A message counts until it turns out to be small, or until its call
    ends. To prevent slow clients from excluding others, a message also stops counting after a time that is divided by
    the number of waiting calls. Thus, no call waits much longer than MAX_TIME_S.
    """

    def __init__(self) -> None:
        self._active = 0
        self._waiting = deque[asyncio.Future[None]]()

    async def begin(self) -> Reception:
        """Wait until a message may be received."""
        if self._active >= MAX_RECEPTIONS:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._end_one()
                raise
        else:
            self._active += 1
        return Reception(self, MAX_TIME_S / (1 + len(self._waiting)))

    def _end_one(self) -> None:
        """Pass the place of a message on to the next waiting call."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._active -= 1


reception_of_call: ContextVar[Reception] = ContextVar("reception_of_call")
"""The reception of the message of the current call. gRPC runs each call in a task."""


def ends_if_small(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return a deserializer that calls `parse`, and ends the reception of the call if the message is small."""

    def deserialize(data: bytes) -> Any:
        if len(data) <= SMALL_BYTES:
            reception_of_call.get().end()
        return parse(data)

    return deserialize


def ends_with_call(behaviour: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    """Return a method that calls `behaviour`, and then ends the reception of the call."""

    async def call(request: Any, context: Any) -> Any:
        try:
            return await behaviour(request, context)
        finally:
            reception_of_call.get().end()

    return call
