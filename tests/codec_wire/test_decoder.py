"""LatentDecoder: inverse of the encoder, and errors for frames that are not valid."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_wire.decoder import LatentDecoder
from codec_wire.errors import MalformedMessage, SequenceError, StreamFailed, TruncatedStream
from codec_wire.latents import FinishReason, LatentDtype, LatentFrame, LatentStreamHeader, parse_scales
from codec_wire.pipelines import Scales, numpy_math
from codec_wire.pipelines.host import HOST
from tests.support.arithmetic import ARITHMETICS, arithmetic
from tests.support.strategies import Stream, encoded, streams


@pytest.fixture(scope="module", params=ARITHMETICS, autouse=True)
def every_arithmetic(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run every test with NumPy and with compiled loops."""
    with arithmetic(request.param):
        yield


@pytest.mark.slow
@settings(max_examples=200)
@given(streams())
def test_decoding_inverts_encoding(stream: Stream) -> None:
    """Compare with the formula of the protocol, computed here frame by frame."""
    header, frames = encoded(stream)
    decoder = LatentDecoder(header)
    spec, channels = header.pipeline_spec, header.shape[0]
    scales = None if header.scales is None else parse_scales(header.scales, channels)
    key = np.zeros(0, np.int64)
    for latent, keyframe, frame in zip(stream[1], stream[2], frames, strict=True):
        decoded = decoder.decode(frame)
        assert decoded.shape == header.shape
        values = numpy_math.cast(latent, header.dtype.numpy).reshape(channels, -1)
        if spec.bits is None:
            np.testing.assert_array_equal(decoded, values.reshape(header.shape))
            continue
        if spec.scales is Scales.PER_KEYFRAME and keyframe:
            scales = numpy_math.channel_scales(values)
        assert scales is not None
        scaling = numpy_math.scaling(scales, values.dtype, spec.max_code)
        codes = numpy_math.quantize(values, scaling, spec.max_code, saturate=True).astype(np.int64)
        if spec.delta and keyframe:
            key = codes
        elif spec.delta:
            residual = np.clip(codes - key, -spec.max_code, spec.max_code)
            codes = np.clip(key + residual, -spec.max_code, spec.max_code)
        expected = codes.astype(np.float32) * scales.astype(np.float32)[:, None] / np.float32(spec.max_code)
        np.testing.assert_array_equal(decoded, expected.reshape(header.shape))
    decoder.close()


@pytest.mark.slow
@settings(max_examples=200)
@given(streams(max_frames=5), st.data())
def test_reordered_or_repeated_frames_raise_sequence_error(stream: Stream, data: st.DataObject) -> None:
    header, frames = encoded(stream)
    order = data.draw(st.lists(st.integers(0, len(frames) - 1), min_size=1, max_size=len(frames) + 2))
    decoder = LatentDecoder(header)
    if order == list(range(len(order))):
        for frame in frames[: len(order)]:
            decoder.decode(frame)
        return
    with pytest.raises(SequenceError):
        for index in order:
            decoder.decode(frames[index])


@pytest.mark.slow
@settings(max_examples=200)
@given(streams(max_frames=3), st.data())
def test_data_of_wrong_size_raises_malformed_message(stream: Stream, data: st.DataObject) -> None:
    header, frames = encoded(stream)
    decoder = LatentDecoder(header)
    index = data.draw(st.integers(0, len(frames) - 1))
    for frame in frames[:index]:
        decoder.decode(frame)
    valid = frames[index].data
    cut = valid[: data.draw(st.integers(0, len(valid) - 1))]
    for wrong in (cut, valid + b"\0", b""):
        with pytest.raises(MalformedMessage, match="bytes"):
            decoder.decode(replace(frames[index], data=wrong))
    decoder.decode(frames[index])  # the errors did not change the state of the decoder


def header_of(pipeline: str, shape: tuple[int, ...] = (1, 3), **fields: Any) -> LatentStreamHeader:
    return LatentStreamHeader("a/b", shape, LatentDtype.FP16, pipeline, **fields)


ONE = np.array([1], "<f2").tobytes()


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (header_of("int8", scales=ONE), b"\x80\0\0", "-128"),
        (header_of("int4", scales=ONE), b"\x08\0", "-8"),
        (header_of("int4", scales=ONE), b"\0\x10", "high nibble"),
        (header_of("raw"), np.array([1, np.nan, 2], "<f2").tobytes(), "NaN"),
        (header_of("raw"), np.array([1, np.inf, 2], "<f2").tobytes(), "NaN or Inf"),
        (header_of("int8-adaptive"), np.array([np.inf], "<f2").tobytes() + b"\0\0\0", "scale"),
        (header_of("int8-adaptive"), np.array([np.nan], "<f2").tobytes() + b"\0\0\0", "scale"),
        (header_of("int4-adaptive"), np.array([-1], "<f2").tobytes() + b"\0\0", "scale"),
    ],
)
def test_invalid_values_raise_malformed_message(header: LatentStreamHeader, data: bytes, message: str) -> None:
    with pytest.raises(MalformedMessage, match=message):
        LatentDecoder(header).decode(LatentFrame(data, 0, keyframe=True, done=True))


def test_residual_without_a_keyframe_raises_sequence_error() -> None:
    with pytest.raises(SequenceError, match="keyframe"):
        LatentDecoder(header_of("delta+int8")).decode(LatentFrame(b"\0\0\0", 0, keyframe=False, done=True))


def test_residual_in_a_pipeline_without_delta_raises_sequence_error() -> None:
    with pytest.raises(SequenceError, match="keyframe"):
        LatentDecoder(header_of("raw")).decode(LatentFrame(bytes(6), 0, keyframe=False, done=True))


@pytest.mark.parametrize(
    ("total", "done_at", "reason", "refused"),
    [
        (3, 2, FinishReason.OK, False),
        (3, 1, FinishReason.OK, True),
        (3, 1, None, True),
        (3, 1, FinishReason.STOP, False),
        (2, 2, FinishReason.OK, True),
    ],
)
def test_number_of_frames_must_match_total_frames(
    total: int, done_at: int, reason: FinishReason | None, refused: bool
) -> None:
    decoder = LatentDecoder(header_of("raw", total_frames=total))

    def run() -> None:
        for seq in range(done_at + 1):
            done = seq == done_at
            decoder.decode(LatentFrame(bytes(6), seq, keyframe=True, done=done, finish_reason=reason if done else None))
        decoder.close()

    if refused:
        with pytest.raises(SequenceError):
            run()
    else:
        run()


def test_error_frame_raises_stream_failed_and_ends_the_stream() -> None:
    decoder = LatentDecoder(header_of("raw", total_frames=5))
    with pytest.raises(StreamFailed, match="frame 0"):
        decoder.decode(LatentFrame(b"", 0, keyframe=True, done=True, finish_reason=FinishReason.ERROR))
    decoder.close()


def test_close_before_the_last_frame_raises_truncated_stream() -> None:
    decoder = LatentDecoder(header_of("raw"))
    decoder.decode(LatentFrame(bytes(6), 0, keyframe=True, done=False))
    with pytest.raises(TruncatedStream, match="after 1 frames"):
        decoder.close()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"latent_space_id": ""}, "latent_space_id"),
        ({"shape": (4,)}, "shape"),
        ({"shape": (4, 0)}, "shape"),
        ({"shape": (2**31, 2**31)}, "at most 268435456 values"),
        ({"pipeline": "int2"}, "pipeline must be one of raw"),
        ({"scales": ONE}, "scales are not allowed"),
        ({"pipeline": "int8"}, "scales are required"),
        ({"pipeline": "int8", "scales": ONE + ONE}, "4"),
        ({"fps": 0}, "fps"),
        ({"total_frames": 2**32}, "total_frames"),
        ({"vae_scale_factor": float("nan")}, "vae_scale_factor"),
        ({"vae_scale_factor": -1.0}, "vae_scale_factor"),
    ],
)
def test_invalid_header_raises_malformed_message_naming_the_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedMessage, match=message):
        replace(header_of("raw"), **fields)


@pytest.mark.parametrize("fields", [{"seq": -1}, {"seq": 2**32}, {"done": False, "finish_reason": FinishReason.OK}])
def test_invalid_frame_raises_malformed_message(fields: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage):
        replace(LatentFrame(b"", 0, keyframe=True, done=True), **fields)


@pytest.mark.parametrize("max_code", [127, 7])
def test_residuals_of_all_pairs_of_codes_are_clipped(max_code: int) -> None:
    encoding, decoding = HOST.encoding, HOST.decoding
    key, other = np.meshgrid(*[np.arange(-max_code, max_code + 1)] * 2)
    keys, codes = key.astype(np.int8), other.astype(np.int8)
    residual = encoding.residual(codes, encoding.key_codes(keys, max_code))
    np.testing.assert_array_equal(residual.reshape(key.shape), np.clip(other - key, -max_code, max_code))
    total = decoding.add_residual(decoding.key_codes(keys, max_code), codes)
    np.testing.assert_array_equal(total, np.clip(key + other, -max_code, max_code))
