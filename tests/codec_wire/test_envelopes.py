"""Encoding and parsing of single messages, compared with the reference encoder."""

import msgpack
import pytest
from codecai.server import latent_frame as reference
from hypothesis import given

from codec_wire import WireFormat, encode, msgpack_envelope, protobuf_envelope
from codec_wire.errors import MalformedMessage
from codec_wire.latents import LatentFrame, LatentStreamHeader
from tests.support.strategies import frames, headers


@pytest.mark.slow
@given(headers())
def test_header_bytes_equal_the_reference(header: LatentStreamHeader) -> None:
    fields = {
        "latent_space_id": header.latent_space_id,
        "shape": header.shape,
        "dtype": str(header.dtype),
        "pipeline": header.pipeline,
        "scales": header.scales,
        "fps": header.fps,
        "total_frames": header.total_frames,
        "vae_scale_factor": header.vae_scale_factor,
    }
    assert encode(header, WireFormat.MSGPACK) == reference.encode_latent_header_msgpack(**fields)
    assert encode(header, WireFormat.PROTOBUF) == reference.encode_latent_header_protobuf(**fields)


@given(frames())
def test_frame_bytes_equal_the_reference(frame: LatentFrame) -> None:
    fields = {
        "data": frame.data,
        "seq": frame.seq,
        "keyframe": frame.keyframe,
        "done": frame.done,
        "finish_reason": None if frame.finish_reason is None else str(frame.finish_reason),
    }
    assert encode(frame, WireFormat.MSGPACK) == reference.encode_latent_frame_msgpack(**fields)
    assert encode(frame, WireFormat.PROTOBUF) == reference.encode_latent_frame_protobuf(**fields)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 16383, 16384, 65535, 65536, 2**21 - 1, 2**21])
def test_frame_bytes_equal_the_reference_at_boundaries_of_the_length_encoding(size: int) -> None:
    frame = LatentFrame(bytes(size), 300, keyframe=False, done=False)
    fields = {"data": frame.data, "seq": 300, "keyframe": False, "done": False}
    assert encode(frame, WireFormat.MSGPACK) == reference.encode_latent_frame_msgpack(**fields)
    assert encode(frame, WireFormat.PROTOBUF) == reference.encode_latent_frame_protobuf(**fields)
    assert protobuf_envelope.frame_to_message(frame).SerializeToString() == encode(frame, WireFormat.PROTOBUF)[4:]


@pytest.mark.slow
@given(headers())
def test_parsing_inverts_encoding_of_headers(header: LatentStreamHeader) -> None:
    assert msgpack_envelope.parse_header(msgpack.unpackb(encode(header, WireFormat.MSGPACK))) == header
    assert protobuf_envelope.parse_header(encode(header, WireFormat.PROTOBUF)[4:]) == header


@given(frames())
def test_parsing_inverts_encoding_of_frames(frame: LatentFrame) -> None:
    assert msgpack_envelope.parse_frame(msgpack.unpackb(encode(frame, WireFormat.MSGPACK))) == frame
    assert protobuf_envelope.parse_frame(encode(frame, WireFormat.PROTOBUF)[4:]) == frame


HEADER = {"type": "header", "latent_space_id": "a/b", "shape": [4, 2, 2], "dtype": "fp16", "pipeline": "raw"}
FRAME = {"data": b"", "seq": 0, "keyframe": True, "done": True, "finish_reason": "ok"}
WRONG = {"type": "frame", "shape": [4, "2"], "dtype": "bf16", "pipeline": "int3", "fps": -1, "vae_scale_factor": "1"}


@pytest.mark.parametrize("key", [*HEADER])
def test_missing_header_key_raises_malformed_message(key: str) -> None:
    with pytest.raises(MalformedMessage, match=key):
        msgpack_envelope.parse_header({name: value for name, value in HEADER.items() if name != key})


@pytest.mark.parametrize("key", ["data", "seq", "keyframe", "done"])
def test_missing_frame_key_raises_malformed_message(key: str) -> None:
    with pytest.raises(MalformedMessage, match=key):
        msgpack_envelope.parse_frame({name: value for name, value in FRAME.items() if name != key})


@pytest.mark.parametrize(("key", "value"), [*WRONG.items(), ("scales", "text"), ("shape", 4), ("more", 1)])
def test_invalid_header_value_raises_malformed_message_naming_the_key(key: str, value: object) -> None:
    with pytest.raises(MalformedMessage, match=key if key != "type" else "header"):
        msgpack_envelope.parse_header(HEADER | {key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data", "text"),
        ("seq", True),
        ("seq", 1.0),
        ("keyframe", 1),
        ("done", None),
        ("finish_reason", "why"),
        ("x", 1),
    ],
)
def test_invalid_frame_value_raises_malformed_message_naming_the_key(key: str, value: object) -> None:
    with pytest.raises(MalformedMessage, match=key):
        msgpack_envelope.parse_frame(FRAME | {key: value})


def test_unknown_protobuf_field_or_truncated_message_raises_malformed_message() -> None:
    payload = encode(LatentFrame(b"x", 0, keyframe=True, done=True), WireFormat.PROTOBUF)[4:]
    with pytest.raises(MalformedMessage, match="field number 9"):
        protobuf_envelope.parse_frame(payload + b"\x48\x01")
    with pytest.raises(MalformedMessage, match="cannot be parsed as a LatentFrame"):
        protobuf_envelope.parse_frame(payload[:-1])


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(b"\x10\x80\x80\x80\x80\x10", id="seq of 2^32"),
        pytest.param(b"\x10\x01", id="a second seq"),
        pytest.param(b"\x18\x02", id="keyframe 2"),
        pytest.param(b"\x0a\x01y", id="a second data"),
        pytest.param(b"\x10\x81\x00", id="varint with superfluous bytes"),
    ],
)
def test_noncanonical_protobuf_raises_malformed_message(more: bytes) -> None:
    start = b"\x0a\x01x" + (b"\x10\x01" if more == b"\x10\x01" else b"")
    with pytest.raises(MalformedMessage, match="has a repeated field"):
        protobuf_envelope.parse_frame(start + more)


def test_absent_protobuf_fields_have_their_defaults() -> None:
    assert protobuf_envelope.parse_frame(b"") == LatentFrame(b"", 0, keyframe=False, done=False)
