"""A limit on the number and the memory of the request messages that are received at the same time.

While gRPC receives a message, gRPC stores the received part and does not report the size of the message. A message can
take up to MAX_REQUEST_BYTES. If no method waits for a message, the flow control of HTTP/2 stops the client after
64 KiB. The classes in this module therefore limit how many methods wait for a message.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from grpc.aio import EOF

from codec_grpc.message_compression import decompress
from codec_grpc.waiting_calls import WaitingCalls
from codec_wire.errors import CodecError, Overloaded, RequestTimeout
from core.input_image import MAX_IMAGE_BYTES
from core.request_memory import RequestMemory, Reservation

MAX_REQUEST_BYTES = 1024 * 1024 + 2 * MAX_IMAGE_BYTES
"""Maximum size of a request message in bytes. The limit allows two images and 1 MiB for the other fields."""
MAX_TURNS = 2
"""Maximum number of messages that are received at the same time and are not slow."""
TURN_S = 0.25
"""Time in seconds after which the reception of a message is slow if other calls wait for a turn.

The time is longer than the first retransmission of TCP, which takes 0.2 s.
"""
PATIENCE_S = 5.0
"""Time in seconds after which a slow reception is refused if other calls wait and its memory is not available."""
RECEIVE_TIMEOUT_S = 120.0
"""Maximum time in seconds to receive a message. The HTTP server has the same limit for a request body."""
MAX_WAITING = 1000
"""Maximum number of calls that wait for a turn. More calls may wait if they are the only ones of their clients."""
SMALL_BYTES = 64 * 1024
"""Maximum size of a small message in bytes. The reception of a small message ends when the message is complete."""


class Receptions:
    """Turns in which calls receive request messages.

    At most MAX_TURNS messages are received at the same time. codec_grpc.waiting_calls describes the order of the calls
    that wait, and `prefers_new`. If a message is not complete after TURN_S seconds and other calls wait, the next call
    gets the turn, and the reception of the message is slow. If no call waits at that time, the next call that has to
    wait gets the turn of the oldest such reception at once.

    A slow reception reserves the maximum size of a message in `memory`. A client may have one slow reception; further
    ones may together reserve at most half of `memory`. If the memory is not available, the reception keeps its turn
    until the memory is available, but for at most PATIENCE_S seconds since its beginning. After that, or at once if
    the client has reached its own limit and another client waits, the call is rejected with Overloaded. If `memory` is
    None, the call of a slow reception is rejected.

    This class is not thread-safe: use it only from the event loop's thread.
    """

    def __init__(self, memory: RequestMemory | None, *, prefers_new: bool = False) -> None:
        self._memory = memory
        self._turns = 0
        self._waiting = WaitingCalls(prefers_new=prefers_new)
        self._slow_bytes: dict[str, int] = {}
        """Number of bytes that the slow receptions of each client have reserved."""
        self._overdue: dict[Reception, None] = {}
        """Receptions that have a turn and have taken longer than TURN_S seconds, oldest first, while no call waits."""

    async def begin(self, client: str) -> "Reception":
        """Wait for a turn and return the reception of the next message of `client`.

        Raises Overloaded if too many calls wait for a turn.
        """
        if self._turns < MAX_TURNS:
            self._turns += 1
        else:
            await self._wait(client)
        return Reception(self, client)

    async def _wait(self, client: str) -> None:
        if client in self._waiting and len(self._waiting) >= MAX_WAITING:
            raise Overloaded(f"{MAX_WAITING} other calls wait to send a message, which is the limit", retry_after_s=1)
        turn = self._waiting.add(client)
        while self._overdue and not next(iter(self._overdue))._give_up_turn():
            pass
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the call had just got the turn
                self._end_turn()
            self._waiting.discard(client, turn)
            raise

    def _end_turn(self) -> None:
        """Give the turn to the next call. If no call waits, reduce the number of turns."""
        if not self._waiting.give_turn():
            self._turns -= 1

    def _reserve_slow(self, client: str, *, may_keep_turn: bool) -> Reservation | None:
        """Reserve the memory for a slow reception of `client`.

        Return None if the memory is not available and the reception keeps its turn for now. Raises Overloaded if the
        memory is not available and `may_keep_turn` is false, or the reception would delay other clients.
        """
        if self._memory is None:
            raise Overloaded(f"the message was not received within {TURN_S:g} s, and other calls wait", retry_after_s=1)
        size = min(MAX_REQUEST_BYTES, self._memory.limit)
        used = self._slow_bytes.get(client, 0)
        if used and used + size > self._memory.limit // 2:
            if may_keep_turn and self._waiting.are_all_of(client):
                return None
            raise Overloaded("this client sends too many messages slowly at the same time", retry_after_s=1)
        try:
            reservation = self._memory.reserve(size)
        except Overloaded:
            if may_keep_turn:
                return None
            raise
        self._slow_bytes[client] = used + size
        return reservation

    def _end_slow(self, client: str, reservation: Reservation) -> None:
        self._slow_bytes[client] -= reservation.size
        if not self._slow_bytes[client]:
            del self._slow_bytes[client]
        reservation.free()


class Reception:
    """The reception of one request message. Receptions.begin creates it; `end` must be called."""

    __slots__ = (
        "_began_at",
        "_client",
        "_has_turn",
        "_receptions",
        "_refusal",
        "_reservation",
        "_timeout",
        "_timer",
    )

    def __init__(self, receptions: Receptions, client: str) -> None:
        self._receptions = receptions
        self._client = client
        self._has_turn = True
        self._reservation: Reservation | None = None
        self._refusal: CodecError | None = None
        self._timeout: asyncio.Timeout | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._began_at = 0.0

    async def receive(self, read: Callable[[], Awaitable[Any]], max_bytes: int = MAX_REQUEST_BYTES) -> bytes | None:
        """Return the message that `read` returns, decompressed, or None if the client sends no more messages.

        If the message is larger than SMALL_BYTES, the reception continues until `end` is called, because the message
        still takes memory. Raises InvalidRequest if the message has more than `max_bytes` bytes or cannot be
        decompressed. Raises RequestTimeout if the message is not complete after RECEIVE_TIMEOUT_S seconds. Raises
        Overloaded if the reception is slow and the memory for it is not available.
        """
        self._began_at = asyncio.get_running_loop().time()
        self._start_timer()
        try:
            async with asyncio.timeout(None) as self._timeout:
                message = await read()
        except TimeoutError:
            raise self._take_refusal() from None
        finally:
            self._stop_timer()
        if message is EOF:
            self.end()
            return None
        data = await decompress(message, max_bytes)
        del message
        if len(data) <= SMALL_BYTES:
            self.end()
        return data

    def end(self) -> None:
        """End the reception, because the message has been handled or no longer takes memory.

        Using this method again has no effect.
        """
        if self._has_turn:
            self._has_turn = False
            self._receptions._end_turn()
        if self._reservation is not None:
            self._receptions._end_slow(self._client, self._reservation)
            self._reservation = None

    def _take_refusal(self) -> CodecError:
        """Return the reason why the message was not received. No reference to the returned error remains in self."""
        refusal, self._refusal = self._refusal, None
        return refusal or RequestTimeout(f"a request message must be received within {RECEIVE_TIMEOUT_S:g} s")

    def _start_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TURN_S, self._end_turn_if_needed)

    def _stop_timer(self) -> None:
        self._receptions._overdue.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()

    def _end_turn_if_needed(self) -> None:
        """Give up the turn if other calls wait for it, otherwise as soon as a call waits."""
        self._end_at(self._began_at + RECEIVE_TIMEOUT_S)  # not set before, because most receptions end earlier
        if self._receptions._waiting:
            self._give_up_turn()
        else:
            self._receptions._overdue[self] = None

    def _end_at(self, time: float, refusal: CodecError | None = None) -> None:
        """Let `receive` raise `refusal`, or RequestTimeout without `refusal`, at `time`, unless it is about to end."""
        assert self._timeout is not None  # noqa: S101 - set by receive
        if not self._timeout.expired():
            self._refusal = refusal
            self._timeout.reschedule(time)

    def _give_up_turn(self) -> bool:
        """Give up the turn, because other calls wait for it. Return whether it has ended or is about to end.

        If the memory for a slow reception is not available, the turn lasts longer or the reception is refused.
        """
        self._stop_timer()
        loop = asyncio.get_running_loop()
        try:
            self._reservation = self._receptions._reserve_slow(
                self._client, may_keep_turn=loop.time() < self._began_at + PATIENCE_S
            )
        except CodecError as error:
            self._end_at(loop.time(), error)
            return True
        if self._reservation is None:
            self._start_timer()
            return False
        self._has_turn = False
        self._receptions._end_turn()
        return True


reception_of_call: ContextVar[Reception | None] = ContextVar("reception_of_call", default=None)
"""Context variable with the Reception of the only request message of the current call, or None.

Each call runs in a separate task of gRPC, and therefore has a separate value of this context variable.
"""


def end_reception() -> None:
    """End the reception of the current call's request message, because the memory is now counted elsewhere."""
    reception = reception_of_call.get()
    if reception is not None:
        reception.end()
