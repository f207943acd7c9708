"""Encoding of a header or a frame in one of the two wire formats."""

from functools import lru_cache

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
    """Return the bytes of a header or a frame, encoded in the wire format `wire_format`."""
    if isinstance(message, LatentStreamHeader):
        return _encoded_header(message, wire_format)
    return _ENCODE_FRAME[wire_format](message)


@lru_cache(maxsize=256)
def _encoded_header(header: LatentStreamHeader, wire_format: WireFormat) -> bytes:
    """Return the bytes of `header`, encoded in the wire format `wire_format`.

    Results are cached, because streams with the same shape and encoding pipeline usually have equal headers.
    """
    return _ENCODE_HEADER[wire_format](header)
