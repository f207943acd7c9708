"""Reception of request messages in the handlers of the gRPC server.

grpc.aio would receive and parse the message of a unary request before the handler starts. All handlers of the server
are therefore registered as handlers of streams, and receive their messages with the functions in this module: after
the checks of the API key and of admission, and within the limits of codec_grpc.receptions. Clients cannot detect the
difference, because both kinds of requests have the same bytes.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from google.protobuf.message import DecodeError

from codec_grpc.receptions import MAX_REQUEST_BYTES, SMALL_BYTES, Receptions, reception_of_call
from codec_wire.errors import CodecError, InvalidRequest

MISSING_MESSAGE_DELAY_S = 0.2
"""Time in seconds to wait for the cancellation of a call whose request message is missing.

gRPC reports a cancellation, and a message that is too large, first as the end of the request.
"""
LINGER_S, LINGER_BYTES = 0.2, 1024 * 1024
"""Maximum time in seconds and maximum number of bytes for receiving the rest of a refused request."""


class MessageReader:
    """Reads the messages of a call of a method whose client sends a stream of messages.

    After a cancelled read, the next read returns the message that the cancelled read would have returned. The context
    of grpc.aio would raise an exception instead, because gRPC cannot cancel a read.
    """

    def __init__(self, context: Any) -> None:
        self._context = context
        self._pending: asyncio.Task[Any] | None = None

    async def read(self) -> Any:
        """Return the next message, or grpc.aio.EOF."""
        if self._pending is None:
            self._pending = asyncio.ensure_future(self._context.read())
        message = await asyncio.shield(self._pending)
        self._pending = None
        return message

    def close(self) -> None:
        """Stop waiting for a message, because the call ends."""
        if self._pending is not None:
            self._pending.cancel()


async def receive_message(
    context: Any,
    receptions: Receptions,
    client: str,
    parse: Callable[[bytes], Any],
    *,
    max_bytes: int = MAX_REQUEST_BYTES,
) -> Any:
    """Return the only request message of the call, which `client` sends, parsed by `parse`.

    The caller must end the reception of the message with codec_grpc.receptions.end_reception at the latest when the
    call ends. Raises InvalidRequest if the message is missing, malformed, or has more than `max_bytes` bytes. Raises
    the errors of Receptions.begin and Reception.receive.
    """
    reception = await receptions.begin(client)
    reception_of_call.set(reception)
    data = await reception.receive(context.read, max_bytes)
    if data is None:
        await asyncio.sleep(MISSING_MESSAGE_DELAY_S)
        raise InvalidRequest("request", "must be one message, but the call sent no message")
    if len(data) > SMALL_BYTES:
        await asyncio.sleep(0)  # copying the message took milliseconds, so other calls are served before the next step
    return _parsed(data, parse)


async def receive_messages(
    reader: Any,
    receptions: Receptions,
    client: str,
    parse: Callable[[bytes], Any],
    *,
    max_bytes: int = MAX_REQUEST_BYTES,
) -> AsyncGenerator[Any, None]:
    """Yield the request messages of the call, which `client` sends, parsed by `parse`.

    `reader` is a MessageReader, or the context of the call if no message is read after an error. The reception of a
    message ends when the next message is requested, or when the iterator is closed. Raises the errors of
    `receive_message`, except that messages may be missing.
    """
    while True:
        reception = await receptions.begin(client)
        try:
            data = await reception.receive(reader.read, max_bytes)
            if data is None:
                return
            message = _parsed(data, parse)
            del data
            yield message
            del message
        finally:
            reception.end()


async def discard(messages: AsyncIterator[Any]) -> None:
    """Receive the rest of a refused request, up to LINGER_BYTES, so that the client receives the status of the call.

    If the rest of the request were not received, grpc.aio would report INTERNAL to a client that is still sending
    messages when the call ends.
    """
    received = 0
    with suppress(TimeoutError, CodecError):
        async with asyncio.timeout(LINGER_S):
            async for message in messages:
                received += message.ByteSize()
                if received > LINGER_BYTES:
                    return


def _parsed(data: bytes, parse: Callable[[bytes], Any]) -> Any:
    try:
        return parse(data)
    except DecodeError:
        raise InvalidRequest("request", f"is not a valid protobuf message ({len(data)} bytes)") from None
