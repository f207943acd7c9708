"""Framers, which split received bytes into unparsed messages. A framer buffers at most one incomplete message."""

from typing import Any, Protocol

import msgpack

from codec_wire import msgpack_envelope, protobuf_envelope
from codec_wire.errors import MalformedMessage, MessageTooLarge, truncated_repr
from codec_wire.latents import LatentFrame, LatentStreamHeader
from codec_wire.protobuf_envelope import LENGTH_PREFIX


class Framer(Protocol):
    """Splits received bytes into the messages of a stream in one wire format."""

    limit: int
    """Maximum size of a message in bytes. The reader sets a new limit after the reader has parsed the header."""
    offset: int
    """Byte position in the stream at which the next message begins."""

    @property
    def pending(self) -> int:
        """Number of buffered bytes after `offset`."""

    def push(self, chunk: bytes) -> None:
        """Append received bytes to the buffer."""

    def next(self) -> Any | None:
        """Return the next message and advance `offset`, or return None if the message is incomplete.

        Raises MalformedMessage if the received bytes are not a message in the wire format. Raises MessageTooLarge as
        soon as the message is known to exceed `limit` bytes.
        """

    def parse_header(self, raw: Any) -> LatentStreamHeader:
        """Return the header in `raw`, which is a message that the method `next` returned.

        Raises MalformedMessage if `raw` is not a header.
        """

    def parse_frame(self, raw: Any) -> LatentFrame:
        """Return the frame in `raw`, which is a message that the method `next` returned.

        Raises MalformedMessage if `raw` is not a frame.
        """


class ProtobufFramer:
    """Framer for protobuf messages, each preceded by its length as a 4-byte big-endian integer."""

    parse_header = staticmethod(protobuf_envelope.parse_header)
    parse_frame = staticmethod(protobuf_envelope.parse_frame)

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.offset = 0
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Number of buffered bytes after `offset`."""
        return len(self._buffer)

    def push(self, chunk: bytes) -> None:
        """Append received bytes to the buffer."""
        self._buffer += chunk

    def next(self) -> bytes | None:
        """Return the next message without its length prefix. See Framer.next."""
        if len(self._buffer) < LENGTH_PREFIX.size:
            return None
        (length,) = LENGTH_PREFIX.unpack_from(self._buffer)
        if length > self.limit:
            raise MessageTooLarge(f"the message has {length} bytes, but the maximum is {self.limit}")
        end = LENGTH_PREFIX.size + length
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[LENGTH_PREFIX.size : end])
        del self._buffer[:end]
        self.offset += end
        return payload


class MsgpackFramer:
    """Framer for concatenated msgpack maps."""

    parse_header = staticmethod(msgpack_envelope.parse_header)
    parse_frame = staticmethod(msgpack_envelope.parse_frame)

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.offset = 0
        self._received = 0
        # The limits prevent the unpacker from allocating memory for a length before the bytes are received.
        self._unpacker = msgpack.Unpacker(
            max_buffer_size=2**31 - 1,
            max_array_len=64,
            max_map_len=64,
            max_str_len=4096,
            max_ext_len=0,
            object_pairs_hook=_dict_without_duplicates,
            strict_map_key=True,
        )

    @property
    def pending(self) -> int:
        """Number of buffered bytes after `offset`."""
        return self._received - self.offset

    def push(self, chunk: bytes) -> None:
        """Append received bytes to the buffer."""
        self._unpacker.feed(chunk)
        self._received += len(chunk)

    def next(self) -> dict[str, Any] | None:
        """Return the next msgpack map. See Framer.next."""
        try:
            message = self._unpacker.unpack()
        except msgpack.OutOfData:
            if self.pending > self.limit:
                raise MessageTooLarge(f"the message has more than {self.limit} bytes") from None
            return None
        except MalformedMessage:
            raise
        except (ValueError, msgpack.UnpackException, RecursionError) as error:
            reason = str(error).partition(" when ")[0] or type(error).__name__
            raise MalformedMessage(f"the message is not a msgpack map: {reason}") from None
        if not isinstance(message, dict):
            raise MalformedMessage(f"expected a msgpack map, got {truncated_repr(message)}")
        end = self._unpacker.tell()
        if end - self.offset > self.limit:
            raise MessageTooLarge(f"the message has more than {self.limit} bytes")
        self.offset = end
        return message


def _dict_without_duplicates(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    message = dict(pairs)
    if len(message) != len(pairs):
        raise MalformedMessage("a msgpack map contains the same key twice")
    return message
