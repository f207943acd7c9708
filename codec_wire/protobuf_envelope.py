"""Conversion between messages and protobuf.

In an HTTP body, each protobuf message is preceded by its length as a 4-byte big-endian integer. In a gRPC call,
gRPC itself separates the messages, so this module adds no length.
"""

import struct

from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from codec_wire.errors import MalformedMessage
from codec_wire.fields import parse_dtype, parse_finish_reason
from codec_wire.generated.codec.latents.v1 import stream_pb2
from codec_wire.latents import MAX_UINT32, FinishReason, LatentFrame, LatentStreamHeader

LENGTH_PREFIX = struct.Struct(">I")


def header_to_message(header: LatentStreamHeader) -> stream_pb2.LatentStreamHeader:
    """Return the header as a protobuf message."""
    return stream_pb2.LatentStreamHeader(
        latent_space_id=header.latent_space_id,
        shape=header.shape,
        dtype=header.dtype,
        pipeline=header.pipeline,
        scales=header.scales,
        fps=header.fps,
        total_frames=header.total_frames,
        vae_scale_factor=header.vae_scale_factor,
    )


def frame_to_message(frame: LatentFrame) -> stream_pb2.LatentFrame:
    """Return the frame as a protobuf message.

    Fields 1 to 4 are always set and sent, even fields with the value zero.
    """
    return stream_pb2.LatentFrame(
        data=frame.data,
        seq=frame.seq,
        keyframe=frame.keyframe,
        done=frame.done,
        finish_reason=frame.finish_reason,
    )


def encode_header(header: LatentStreamHeader) -> bytes:
    """Return the serialized header with its length prefix."""
    payload = header_to_message(header).SerializeToString()
    return LENGTH_PREFIX.pack(len(payload)) + payload


def encode_frame(frame: LatentFrame) -> bytes:
    """Return the serialized frame with its length prefix."""
    return b"".join(frame_parts(frame))


def frame_parts(frame: LatentFrame) -> tuple[bytes, ...]:
    """Return the serialized frame with its length prefix, in parts."""
    size, parts = _frame_parts(frame)
    return (LENGTH_PREFIX.pack(size), *parts)


def encode_frame_field(tag: bytes, frame: LatentFrame) -> bytes:
    """Return the serialized form of a message in which only one field is set, and the value of the field is `frame`.

    `tag` is the encoded tag of the field.
    """
    size, parts = _frame_parts(frame)
    return b"".join((tag, _varint(size), *parts))


def parse_frame_field(tag: bytes, message: bytes) -> LatentFrame | None:
    """Return the frame in a message that `encode_frame_field` has serialized with the same tag, otherwise None.

    If the function returns None, the caller must parse the message with the protobuf library, which also accepts other
    serialized forms of the same message. This function copies `data` only once, and the protobuf library copies `data`
    twice.
    """
    if not message.startswith(tag):
        return None
    size, start = _read_varint(message, len(tag))
    if size != len(message) - start or not message.startswith(_DATA_TAG, start):
        return None
    size, start = _read_varint(message, start + len(_DATA_TAG))
    end = start + size
    if not message.startswith(_SEQ_TAG, end):
        return None
    seq, flags_start = _read_varint(message, end + len(_SEQ_TAG))
    flags = _PARSED_FLAGS.get(message[flags_start:])
    if flags is None or seq > MAX_UINT32:
        return None
    keyframe, done, reason = flags
    return LatentFrame(message[start:end], seq, keyframe, done, reason)


def _read_varint(message: bytes, start: int) -> tuple[int, int]:
    """Return the varint at the index `start` of `message`, and the index of the next byte.

    If the varint is incomplete or has more than 32 bits, the returned number is larger than any message.
    """
    number = 0
    for index, byte in enumerate(message[start : start + 5]):
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number, start + index + 1
    return 2**35, start


def _frame_parts(frame: LatentFrame) -> tuple[int, tuple[bytes, bytes, bytes]]:
    """Return the size of the serialized frame in bytes, and the serialized frame in parts.

    This function assembles the message itself, so that `data` is copied only once, when the caller joins the parts.
    """
    head = _DATA_TAG + _varint(len(frame.data))
    reason = frame.finish_reason
    seq, flags = _varint(frame.seq), _FLAGS[frame.keyframe, frame.done]
    rest = b"".join((_SEQ_TAG, seq, flags, b"" if reason is None else _FINISH_REASONS[reason]))
    return len(head) + len(frame.data) + len(rest), (head, frame.data, rest)


_DATA_TAG = b"\x0a"
"""Tag of the field `data`, which has the field number 1 and is length-delimited."""
_SEQ_TAG = b"\x10"
"""Tag of the field `seq`, which has the field number 2 and is a varint."""
_FLAGS: dict[tuple[bool, bool], bytes] = {
    (keyframe, done): stream_pb2.LatentFrame(keyframe=keyframe, done=done).SerializeToString()
    for keyframe in (False, True)
    for done in (False, True)
}
"""The encoded fields 3 (`keyframe`) and 4 (`done`), for each combination of the two values."""
_FINISH_REASONS: dict[FinishReason, bytes] = {
    reason: stream_pb2.LatentFrame(finish_reason=reason).SerializeToString() for reason in FinishReason
}
"""The encoded field 5 (`finish_reason`), for each finish reason."""
_PARSED_FLAGS: dict[bytes, tuple[bool, bool, FinishReason | None]] = {
    flags + end: (keyframe, done, reason)
    for (keyframe, done), flags in _FLAGS.items()
    for reason, end in ((None, b""), *_FINISH_REASONS.items())
    if done or reason is None
}
"""The values of the fields 3 to 5, keyed by the encoded fields."""


def _varint(number: int) -> bytes:
    """Return `number` as a protobuf varint.

    Each byte contains 7 bits of the number, lowest bits first. The high bit of a byte is 0 only in the last byte.
    """
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def parse_header(payload: bytes) -> LatentStreamHeader:
    """Return the header in `payload`, a protobuf message without length prefix.

    Raises MalformedMessage if `payload` is not a valid header.
    """
    message = stream_pb2.LatentStreamHeader()
    _parse(message, payload)
    return header_from_message(message)


def parse_frame(payload: bytes) -> LatentFrame:
    """Return the frame in `payload`, a protobuf message without length prefix.

    Raises MalformedMessage if `payload` is not a valid frame.
    """
    message = stream_pb2.LatentFrame()
    _parse(message, payload)
    return frame_from_message(message)


def header_from_message(message: stream_pb2.LatentStreamHeader) -> LatentStreamHeader:
    """Return the header in a protobuf message.

    Raises MalformedMessage if a field is not valid. The error message names the invalid field.
    """
    return LatentStreamHeader(
        latent_space_id=message.latent_space_id,
        shape=tuple(message.shape),
        dtype=parse_dtype(message.dtype),
        pipeline=message.pipeline,
        scales=message.scales if message.HasField("scales") else None,
        fps=message.fps if message.HasField("fps") else None,
        total_frames=message.total_frames if message.HasField("total_frames") else None,
        vae_scale_factor=message.vae_scale_factor if message.HasField("vae_scale_factor") else None,
    )


def frame_from_message(message: stream_pb2.LatentFrame) -> LatentFrame:
    """Return the frame in a protobuf message. An absent field has its default value, as in proto3.

    Raises MalformedMessage if a field is not valid. The error message names the invalid field.
    """
    return LatentFrame(
        data=message.data,
        seq=message.seq,
        keyframe=message.keyframe,
        done=message.done,
        finish_reason=parse_finish_reason(message.finish_reason if message.HasField("finish_reason") else None),
    )


def _parse(message: Message, payload: bytes) -> None:
    """Parse `payload` into `message`.

    Raises MalformedMessage if a serialization of the parsed `message` does not give the bytes of `payload` again. The
    protobuf library accepts repeated fields, truncates numbers that are too large, and keeps unknown fields. This
    function rejects repeated fields, numbers that are too large and unknown fields.
    """
    name = message.DESCRIPTOR.name
    try:
        message.ParseFromString(payload)
    except DecodeError:
        raise MalformedMessage(f"the message of {len(payload)} bytes cannot be parsed as a {name}") from None
    unknown = UnknownFieldSet(message)
    if len(unknown):
        raise MalformedMessage(
            f"{name} has a field that is unknown or has the wrong type: field number {unknown[0].field_number}"
        )
    if message.SerializeToString() != payload:
        raise MalformedMessage(f"{name} has a repeated field, fields out of order or a number out of range")
