"""Cuts a body that arrives in pieces into its messages, still unparsed, holding no more than one of them."""

from typing import Any, Protocol

import msgpack

from codec_wire import msgpack_envelope, protobuf_envelope
from codec_wire.errors import MalformedMessage, MessageTooLarge, truncated_repr
from codec_wire.latents import LatentFrame, LatentStreamHeader
from codec_wire.protobuf_envelope import LENGTH_PREFIX


class Framer(Protocol):
    """One wire format's way to find where a message ends."""

    limit: int
    """Bytes that a message may have. The reader sets it as it learns what to expect."""
    offset: int
    """Byte of the stream at which the message that comes next begins."""

    @property
    def pending(self) -> int:
        """Bytes held beyond `offset`."""

    def push(self, chunk: bytes) -> None:
        """Take what came."""

    def next(self) -> Any | None:
        """Return the next complete message and move `offset` past it; None where its end has not come.

        Raises MalformedMessage, and MessageTooLarge as soon as its size shows.
        """

    def parse_header(self, raw: Any) -> LatentStreamHeader:
        """Return the header in what `next` returned."""

    def parse_frame(self, raw: Any) -> LatentFrame:
        """Return the frame in what `next` returned."""


class ProtobufFramer:
    """Messages with a 4-byte big-endian length before each."""

    parse_header = staticmethod(protobuf_envelope.parse_header)
    parse_frame = staticmethod(protobuf_envelope.parse_frame)

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.offset = 0
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes held beyond `offset`."""
        return len(self._buffer)

    def push(self, chunk: bytes) -> None:
        """Take what came."""
        self._buffer += chunk

    def next(self) -> bytes | None:
        """Return the next complete payload. See Framer."""
        if len(self._buffer) < LENGTH_PREFIX.size:
            return None
        (length,) = LENGTH_PREFIX.unpack_from(self._buffer)
        if length > self.limit:
            raise MessageTooLarge(f"a message of {length} bytes where at most {self.limit} can come")
        end = LENGTH_PREFIX.size + length
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[LENGTH_PREFIX.size : end])
        del self._buffer[:end]
        self.offset += end
        return payload


class MsgpackFramer:
    """Msgpack maps, one after the other."""

    parse_header = staticmethod(msgpack_envelope.parse_header)
    parse_frame = staticmethod(msgpack_envelope.parse_frame)

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.offset = 0
        self._fed = 0
        # The lengths bound what the unpacker makes room for before the bytes are there.
        self._unpacker = msgpack.Unpacker(
            max_buffer_size=2**31 - 1,
            max_array_len=64,
            max_map_len=64,
            max_str_len=4096,
            max_ext_len=0,
            object_pairs_hook=_without_repetition,
            strict_map_key=True,
        )

    @property
    def pending(self) -> int:
        """Bytes held beyond `offset`."""
        return self._fed - self.offset

    def push(self, chunk: bytes) -> None:
        """Take what came."""
        self._unpacker.feed(chunk)
        self._fed += len(chunk)

    def next(self) -> dict[str, Any] | None:
        """Return the next complete map. See Framer."""
        try:
            message = self._unpacker.unpack()
        except msgpack.OutOfData:
            if self.pending > self.limit:
                raise MessageTooLarge(f"a message of over {self.limit} bytes") from None
            return None
        except MalformedMessage:
            raise
        except (ValueError, msgpack.UnpackException, RecursionError) as error:
            reason = str(error).partition(" when ")[0] or type(error).__name__
            raise MalformedMessage(f"no msgpack map: {reason}") from None
        if not isinstance(message, dict):
            raise MalformedMessage(f"expected a msgpack map, got {truncated_repr(message)}")
        end = self._unpacker.tell()
        if end - self.offset > self.limit:
            raise MessageTooLarge(f"a message of over {self.limit} bytes")
        self.offset = end
        return message


def _without_repetition(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    message = dict(pairs)
    if len(message) != len(pairs):
        raise MalformedMessage("a msgpack map repeats a key")
    return message
