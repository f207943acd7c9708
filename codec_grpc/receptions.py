"""A limit on the number of large request messages that are received at the same time.

While gRPC receives a message, gRPC stores the received part and does not report the size of the message. The module
core.request_memory can count the memory of a message only after gRPC has received the whole message.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

MAX_RECEPTIONS = 2
"""Maximum number of messages that are received at the same time."""
MAX_TIME_S = 1.0
"""Time in seconds after which a message stops counting towards MAX_RECEPTIONS, if no other call waits."""
SMALL_BYTES = 64 * 1024
"""Maximum size of a small message in bytes.

A small message counts towards MAX_RECEPTIONS only until the message is complete.
"""


class Reception:
    """The reception of one request message."""

    __slots__ = ("_receptions", "_timer")

    def __init__(self, receptions: "Receptions", max_time_s: float) -> None:
        self._receptions: Receptions | None = receptions
        self._timer = asyncio.get_running_loop().call_later(max_time_s, self.end)

    def end(self) -> None:
        """Stop counting this reception, so that the next waiting call can receive a message.

        Using this method again has no effect.
        """
        if self._receptions is not None:
            receptions, self._receptions = self._receptions, None
            self._timer.cancel()
            receptions._end_one()


class Receptions:
    """Counter of the calls that are receiving a message, with a queue of the calls that wait to receive a message.

    While a call waits, the flow control of HTTP/2 stops the client from sending the message. A small message counts
    until the message is complete. A large message counts until the call of the message ends. A message also stops
    counting after a time limit, so that slow clients cannot block other clients. The more calls wait when a message
    starts to count, the shorter is the time limit of the message. No call waits much longer than MAX_TIME_S seconds.
    """

    def __init__(self) -> None:
        self._active = 0
        self._waiting = deque[asyncio.Future[None]]()

    async def begin(self) -> Reception:
        """Wait until another message may be received, and return the reception of the message."""
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
        """Let the next waiting call receive a message. If no call waits, reduce the number of counted messages."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._active -= 1


reception_of_call: ContextVar[Reception] = ContextVar("reception_of_call")
"""Context variable with the Reception of the current call.

Each call runs in a separate task of gRPC, and therefore has a separate value of this context variable.
"""


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
