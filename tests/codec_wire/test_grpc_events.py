"""Events in serialized gRPC messages: those that the protobuf library parses, whatever serialized them."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from codec_wire.events import Frame
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.generated.codec.latents.v1 import stream_pb2
from codec_wire.grpc import event_from_bytes, event_from_message, serialized_frame
from codec_wire.latents import FinishReason, LatentFrame, LatentStreamHeader
from codec_wire.protobuf_envelope import frame_to_message, header_to_message

HEADER = LatentStreamHeader("space", (4, 8, 8), "fp16", "delta+int8", fps=8, total_frames=3)  # type: ignore[arg-type]
FRAME = stream_pb2.LatentFrame(data=b"data", seq=3, keyframe=True, done=True, finish_reason="ok")
FRAME_FIELD = b"\x12"

frames = st.builds(
    LatentFrame,
    data=st.binary(max_size=300) | st.sampled_from([bytes(size) for size in (127, 128, 16383, 16384, 2**21)]),
    seq=st.integers(0, 2**32 - 1),
    keyframe=st.booleans(),
    done=st.just(True),
    finish_reason=st.none() | st.sampled_from(FinishReason),
) | st.builds(LatentFrame, st.binary(max_size=300), st.integers(0, 2**32 - 1), st.booleans(), st.just(False))


def frame_field(frame: bytes) -> bytes:
    """Return a GenerateResponse with a frame of less than 128 bytes, which is already serialized."""
    return FRAME_FIELD + bytes([len(frame)]) + frame


@given(frame=frames)
def test_frame_of_a_server_is_that_which_was_sent(frame: LatentFrame) -> None:
    expected = None if frame.finish_reason is FinishReason.ERROR else Frame(frame)
    assert event_from_bytes(serialized_frame(frame)) == expected
    assert event_from_bytes(pb.GenerateResponse(frame=frame_to_message(frame)).SerializeToString()) == expected


@pytest.mark.parametrize(
    "message",
    [
        pb.GenerateResponse(header=header_to_message(HEADER)),
        pb.GenerateResponse(
            header=header_to_message(HEADER),
            prompt_truncations=[pb.PromptTruncation(field="prompt", encoder="text_encoder", dropped_tokens=3)],
        ),
        pb.GenerateResponse(progress=pb.Progress(step=3, total_steps=25)),
        pb.GenerateResponse(preview=pb.Preview(step=3, total_steps=25, frame=FRAME)),
        pb.GenerateResponse(
            preview=pb.Preview(step=3, total_steps=25, frame=frame_to_message(LatentFrame(bytes(2000), 0, True, False)))
        ),
        pb.GenerateResponse(),
        pb.GenerateResponse(frame=stream_pb2.LatentFrame()),
        pb.GenerateResponse(frame=stream_pb2.LatentFrame(data=b"data")),
        pb.GenerateResponse(frame=stream_pb2.LatentFrame(seq=3, done=True)),
    ],
    ids=str,
)
def test_other_events_are_those_of_the_protobuf_library(message: pb.GenerateResponse) -> None:
    for _ in range(2):  # the second result is from a cache
        assert event_from_bytes(message.SerializeToString()) == event_from_message(message)


@pytest.mark.parametrize(
    "serialized",
    [
        frame_field(FRAME.SerializeToString() + b"\x10\x04"),  # seq is repeated
        frame_field(FRAME.SerializeToString() + b"\x0a\x01x"),  # data is repeated
        frame_field(FRAME.SerializeToString() + b"\x78\x01"),  # an unknown field
        frame_field(b"\x10\x04" + FRAME.SerializeToString()),  # fields out of order
        frame_field(b"\x0a\x84\x00data\x10\x83\x00\x18\x01\x20\x01"),  # varints that are too long
        frame_field(b"\x0a\x04data\x10\xff\xff\xff\xff\x7f\x18\x00\x20\x00"),  # a number that is too large
        frame_field(FRAME.SerializeToString()) + frame_field(b"\x10\x05"),  # a frame in two fields
        frame_field(FRAME.SerializeToString()) + b"\x1a\x00",  # a second event
        frame_field(FRAME.SerializeToString()) + b"\x78\x01",
    ],
    ids=bytes.hex,
)
def test_unusual_message_has_the_event_of_the_protobuf_library(serialized: bytes) -> None:
    assert event_from_bytes(serialized) == event_from_message(pb.GenerateResponse.FromString(serialized))


@pytest.mark.parametrize("size", range(1, 18))
def test_truncated_message_is_refused(size: int) -> None:
    with pytest.raises(DecodeError):
        event_from_bytes(frame_field(FRAME.SerializeToString())[:size])
