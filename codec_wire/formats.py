"""The wire formats by name, and the one function that makes a message's bytes in either."""

from enum import StrEnum

from codec_wire import msgpack_envelope, protobuf_envelope
from codec_wire.latents import LatentFrame, LatentStreamHeader


class WireFormat(StrEnum):
    """How messages lie in an HTTP body."""

    MSGPACK = "msgpack"
    """Maps one after the other, nothing between them."""
    PROTOBUF = "protobuf"
    """A 4-byte big-endian length before each message."""


_HEADERS = {
    WireFormat.MSGPACK: msgpack_envelope.encode_header,
    WireFormat.PROTOBUF: protobuf_envelope.encode_header,
}
_FRAMES = {WireFormat.MSGPACK: msgpack_envelope.encode_frame, WireFormat.PROTOBUF: protobuf_envelope.encode_frame}


def encode(message: LatentStreamHeader | LatentFrame, wire_format: WireFormat) -> bytes:
    """Return the bytes of one message as they lie in a body of `wire_format`."""
    if isinstance(message, LatentStreamHeader):
        return _HEADERS[wire_format](message)
    return _FRAMES[wire_format](message)
