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
_FRAME_PARTS = {
    WireFormat.MSGPACK: msgpack_envelope.frame_parts,
    WireFormat.PROTOBUF: protobuf_envelope.frame_parts,
}


def encode(message: LatentStreamHeader | LatentFrame, wire_format: WireFormat) -> bytes:
    """Return the bytes of a header or a frame, encoded in the wire format `wire_format`."""
    if isinstance(message, LatentStreamHeader):
        return _encoded_header(message, wire_format)
    return _ENCODE_FRAME[wire_format](message)


def frame_parts(frame: LatentFrame, wire_format: WireFormat) -> tuple[bytes, ...]:
    """Return the bytes of a frame like `encode`, but in parts, so that the data of the frame are not copied."""
    return _FRAME_PARTS[wire_format](frame)


@lru_cache(maxsize=256)
def _encoded_header(header: LatentStreamHeader, wire_format: WireFormat) -> bytes:
    """Return the bytes of `header`, encoded in the wire format `wire_format`.

    Results are cached, because streams with the same shape and encoding pipeline usually have equal headers.
    """
    return _ENCODE_HEADER[wire_format](header)
