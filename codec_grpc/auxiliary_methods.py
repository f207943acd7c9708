"""Limits on the methods of health checks and reflection, which other packages implement."""

import inspect
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

from codec_grpc.call import peer_address
from codec_grpc.errors import set_status
from codec_grpc.received_messages import receive_message, receive_messages
from codec_grpc.receptions import SMALL_BYTES, Receptions, end_reception
from codec_wire.errors import CodecError, Overloaded

MAX_STREAMS_PER_IP = 1024
"""Maximum number of active streams from one IP address. Clients can keep Health/Watch and reflection open."""


class AuxiliaryMethods:
    """Wrapper of the methods of health checks and reflection.

    The wrapped methods receive messages of at most SMALL_BYTES, for one connection after the other. An invalid message
    ends the call with INVALID_ARGUMENT. A stream of a client that has too many streams ends with RESOURCE_EXHAUSTED.
    A stream of messages ends with OK if it waits for its second or a later message and another stream needs its turn.
    """

    def __init__(self, receptions: Receptions) -> None:
        """`receptions` receives the messages of health checks."""
        self._receptions = receptions
        self._stream_receptions = Receptions(None)
        """Receptions of streams of messages. An idle stream of one client must not delay health checks of others."""
        self._streams = Counter[str]()
        """Number of active streams from each IP address."""

    def wrap(
        self, behaviour: Callable[[Any, Any], Any], parse: Callable[[bytes], Any], *, streams: bool
    ) -> Callable[[Any, Any], Any]:
        """Return a method that receives its messages, which `parse` parses, and calls `behaviour` with them.

        `streams` states whether the method sends a stream of responses.
        """

        async def call(_: Any, context: Any) -> Any:
            with self._counted(context.peer(), streams=streams) as connection, _ended_reception():
                request = await receive_message(context, self._receptions, connection, parse, max_bytes=SMALL_BYTES)
                return await behaviour(request, context)

        async def iterate(_: Any, context: Any) -> AsyncIterator[Any]:
            with self._counted(context.peer(), streams=streams) as connection:
                messages = receive_messages(context, self._stream_receptions, connection, parse, max_bytes=SMALL_BYTES)
                async with aclosing(messages), aclosing(_until_turn_ends(messages)) as requests:
                    async for response in behaviour(requests, context):
                        yield response

        return _with_stream_status(iterate) if inspect.isasyncgenfunction(behaviour) else _with_status(call)

    @contextmanager
    def _counted(self, connection: str, *, streams: bool) -> Iterator[str]:
        """Yield `connection`, the IP address and port of a client, and count an active stream if `streams` is true.

        Raises Overloaded if the IP address has too many active streams.
        """
        if not streams:
            yield connection
            return
        address = peer_address(connection)
        if self._streams[address] >= MAX_STREAMS_PER_IP:
            raise Overloaded(f"{address} has {MAX_STREAMS_PER_IP} active streams, which is the limit", retry_after_s=1)
        self._streams[address] += 1
        try:
            yield connection
        finally:
            self._streams[address] -= 1
            if not self._streams[address]:
                del self._streams[address]


@contextmanager
def _ended_reception() -> Iterator[None]:
    try:
        yield
    finally:
        end_reception()


async def _until_turn_ends(messages: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    """Yield `messages`, but stop instead of raising Overloaded after the first message."""
    is_first = True
    try:
        async for message in messages:
            is_first = False
            yield message
    except Overloaded:
        if is_first:
            raise


def _with_status(method: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    async def call(requests: Any, context: Any) -> Any:
        try:
            return await method(requests, context)
        except CodecError as error:
            set_status(context, error)

    return call


def _with_stream_status(method: Callable[[Any, Any], AsyncIterator[Any]]) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def iterate(requests: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for response in method(requests, context):
                yield response
        except CodecError as error:
            set_status(context, error)

    return iterate
