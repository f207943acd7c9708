"""A limit on the size of a whole request header. aiohttp's parser limits only the size of each line."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

MAX_LINE_BYTES = 8190
"""Maximum size of the request line in bytes."""
MAX_HEADER_BYTES = 64 * 1024
"""Maximum size in bytes of a request header, and of each field in the header.

Headers can be long, because a browser sends the cookies of all servers on localhost to every server on localhost.
"""

Parsed: TypeAlias = tuple[Sequence[tuple[RawRequestMessage, StreamReader]], bool, bytes]
"""Type of the result of feed_data().

The result is a tuple of the new messages with payloads, a Boolean that is True if the protocol was upgraded, and the
unparsed bytes.
"""


class LimitedRequestParser:
    """Wrapper of aiohttp's request parser that limits the size of a header.

    Attributes that this class does not define are read from the wrapped `parser`.
    """

    def __init__(self, parser: Any) -> None:
        self._parser = parser
        self._payload: StreamReader = EMPTY_PAYLOAD
        self.header_bytes = 0
        """Number of received bytes of a header that is not yet complete."""
        self._possible_bytes = 0
        """Size in bytes of the piece of data in which the last header or body ended.

        This piece of data may also contain the start of the next header.
        """

    @property
    def in_body(self) -> bool:
        """Whether the body of the last request is incomplete."""
        return not self._payload.is_eof()

    def feed_data(self, data: bytes) -> Parsed:
        """Parse `data`. Raises HttpProcessingError if `data` is not valid HTTP or a header is too large."""
        in_body = self.in_body
        parsed: Parsed = self._parser.feed_data(data)
        messages = parsed[0]
        size = len(data) if in_body else self.header_bytes + len(data)
        if messages:
            size += self._possible_bytes
            self._payload = messages[-1][1]
            self.header_bytes = 0
            self._possible_bytes = len(data)
            is_too_large = size > MAX_HEADER_BYTES and any(_size(message) > MAX_HEADER_BYTES for message, _ in messages)
        else:
            if in_body:
                self._possible_bytes = len(data)  # the end of the body, and perhaps the start of a header
            self.header_bytes = 0 if in_body else size
            is_too_large = self.header_bytes > MAX_HEADER_BYTES
        if is_too_large:
            raise LineTooLong(b"", MAX_HEADER_BYTES)
        return parsed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)


def _size(message: RawRequestMessage) -> int:
    """Return the size of a request header in bytes."""
    line = len(f"{message.method} {message.path} HTTP/1.1\r\n")
    return line + sum(len(name) + len(value) + len(": \r\n") for name, value in message.raw_headers) + len("\r\n")
