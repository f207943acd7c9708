"""Handling of request messages that are not valid protobuf.

An invalid message ends the call with INVALID_ARGUMENT.
"""

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf.message import DecodeError

from codec_grpc.errors import to_status
from codec_wire.errors import InvalidRequest


def parse_or_invalid(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return a deserializer that returns an InvalidRequest object for bytes that `parse` rejects.

    The deserializer does not raise InvalidRequest. gRPC would send an exception of a deserializer to the client with
    the status UNKNOWN and the name of a Python class.
    """

    def deserialize(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            return InvalidRequest("request", f"is not a valid protobuf message ({len(data)} bytes)")

    return deserialize


def checked(request: Any) -> Any:
    """Return `request`, which is a message or an iterator of messages.

    Raises InvalidRequest if a message could not be parsed.
    """
    if isinstance(request, InvalidRequest):
        raise request
    return _checked_messages(request) if isinstance(request, AsyncIterator) else request


async def _checked_messages(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield checked(request)


def refuse_malformed(behaviour: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Wrap a method of a third-party servicer so that a malformed request ends the call with INVALID_ARGUMENT."""

    async def abort(context: Any, error: InvalidRequest) -> None:
        status = to_status(error)
        await context.abort(status.code, status.details, status.trailing_metadata)

    async def call(request: Any, context: Any) -> Any:
        try:
            return await behaviour(checked(request), context)
        except InvalidRequest as error:
            await abort(context, error)

    async def iterate(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for response in behaviour(checked(request), context):
                yield response
        except InvalidRequest as error:
            await abort(context, error)

    return iterate if inspect.isasyncgenfunction(behaviour) else call
