"""Messages as protobuf: bare messages for gRPC, and with a 4-byte big-endian length before each for HTTP."""

import struct
from dataclasses import fields

from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from codec_wire.errors import MalformedMessage
from codec_wire.fields import parse_dtype, parse_finish_reason
from codec_wire.generated.codec.latents.v1 import stream_pb2
from codec_wire.latents import LatentFrame, LatentStreamHeader

LENGTH_PREFIX = struct.Struct(">I")


def header_to_message(header: LatentStreamHeader) -> stream_pb2.LatentStreamHeader:
    """Return the header as a protobuf message."""
    return stream_pb2.LatentStreamHeader(**{field.name: getattr(header, field.name) for field in fields(header)})


def frame_to_message(frame: LatentFrame) -> stream_pb2.LatentFrame:
    """Return the frame as a protobuf message; fields 1 to 4 are set, and so sent, also where they hold a default."""
    return stream_pb2.LatentFrame(**{field.name: getattr(frame, field.name) for field in fields(frame)})


def encode_header(header: LatentStreamHeader) -> bytes:
    """Return the header with its length before it."""
    payload = header_to_message(header).SerializeToString()
    return LENGTH_PREFIX.pack(len(payload)) + payload


def encode_frame(frame: LatentFrame) -> bytes:
    """Return the frame with its length before it.

    `data` is field 1 and so comes first; it is copied once, into its place, and protobuf serializes the rest.
    """
    rest = stream_pb2.LatentFrame(
        seq=frame.seq, keyframe=frame.keyframe, done=frame.done, finish_reason=frame.finish_reason
    ).SerializeToString()
    head = _DATA_TAG + _varint(len(frame.data))
    length = len(head) + len(frame.data) + len(rest)
    return b"".join((LENGTH_PREFIX.pack(length), head, frame.data, rest))


_DATA_TAG = b"\x0a"
"""Field 1, length-delimited."""


def _varint(number: int) -> bytes:
    """Return protobuf's encoding of an unsigned number: seven bits a byte, lowest first, all but the last marked."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def parse_header(payload: bytes) -> LatentStreamHeader:
    """Return the header in `payload` (without length). Raises MalformedMessage."""
    message = stream_pb2.LatentStreamHeader()
    _parse(message, payload)
    return header_from_message(message)


def parse_frame(payload: bytes) -> LatentFrame:
    """Return the frame in `payload` (without length). Raises MalformedMessage."""
    message = stream_pb2.LatentFrame()
    _parse(message, payload)
    return frame_from_message(message)


def header_from_message(message: stream_pb2.LatentStreamHeader) -> LatentStreamHeader:
    """Return the header that a protobuf message holds. Raises MalformedMessage naming the field at fault."""
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
    """Return the frame that a protobuf message holds. An absent field holds its default, as proto3 senders mean it."""
    return LatentFrame(
        data=message.data,
        seq=message.seq,
        keyframe=message.keyframe,
        done=message.done,
        finish_reason=parse_finish_reason(message.finish_reason if message.HasField("finish_reason") else None),
    )


def _parse(message: Message, payload: bytes) -> None:
    """Fill `message` from `payload`, which must be just what `message` serializes to.

    Protobuf itself lets a later field replace an earlier one, cuts numbers to their width and keeps what it does not
    know; here all three are refused.
    """
    name = message.DESCRIPTOR.name
    try:
        message.ParseFromString(payload)
    except DecodeError:
        raise MalformedMessage(f"{len(payload)} bytes are no {name}") from None
    unknown = UnknownFieldSet(message)
    if len(unknown):
        raise MalformedMessage(f"a {name} has no field {unknown[0].field_number}, or not of that type")
    if message.SerializeToString() != payload:
        raise MalformedMessage(f"a {name} repeats a field, has them out of order, or a number too large for its field")
