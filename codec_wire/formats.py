"""Encoding of one message in either wire format."""

from codec_wire import msgpack_envelope, protobuf_envelope
from codec_wire.latents import LatentFrame, LatentStreamHeader
from codec_wire.wire_format import WireFormat

_ENCODE_HEADER = {
    WireFormat.MSGPACK: msgpack_envelope.encode_header,
    WireFormat.PROTOBUF: protobuf_envelope.encode_header,
}
_ENCODE_FRAME = {
    WireFormat.MSGPACK: msgpack_envelope.encode_frame,
    WireFormat.PROTOBUF: protobuf_envelope.encode_frame,
}


def encode(message: LatentStreamHeader | LatentFrame, wire_format: WireFormat) -> bytes:
    """Return the bytes of one message in an HTTP body of this wire format."""
    if isinstance(message, LatentStreamHeader):
        return _ENCODE_HEADER[wire_format](message)
    return _ENCODE_FRAME[wire_format](message)
