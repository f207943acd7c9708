"""LatentEncoder: every pipeline, NumPy and torch, both wire formats, compared with the published reference encoder."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from codec_wire import WireFormat, encode, encoder
from codec_wire.encoder import LatentEncoder
from codec_wire.errors import InvalidLatents
from codec_wire.latents import LatentDtype, LatentStreamHeader
from codec_wire.pipelines import PIPELINES, numpy_math, torch_math
from codec_wire.pipelines.multipliers import SMALLEST_SCALE_BITS, multipliers
from tests.support.arithmetic import ARITHMETICS, arithmetic
from tests.support.oracle import reference_messages
from tests.support.strategies import Stream, streams


@pytest.fixture(scope="module", params=ARITHMETICS, autouse=True)
def every_arithmetic(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run every test with NumPy and with compiled loops."""
    with arithmetic(request.param):
        yield


def encoded_messages(stream: Stream, wire_format: WireFormat, *, with_torch: bool) -> list[bytes]:
    header, latents, keyframes = stream
    stream_encoder = LatentEncoder(header)
    messages = [encode(header, wire_format)]
    for seq, (latent, keyframe) in enumerate(zip(latents, keyframes, strict=True)):
        converted = torch.from_numpy(latent) if with_torch else latent
        frame = stream_encoder.encode(converted, keyframe=keyframe, last=seq == len(latents) - 1)
        messages.append(encode(frame, wire_format))
    return messages


@contextmanager
def arithmetic_of_other_devices() -> Iterator[None]:
    """Encode tensors on the CPU with torch, as those on other devices."""
    cast = lambda latent, dtype, _host_math: (torch_math, torch_math.cast(latent, dtype))  # noqa: E731
    with mock.patch.object(encoder, "_cast", cast):
        yield


def quantize_with_numpy(values: NDArray[Any], scales: NDArray[Any], max_code: int) -> NDArray[np.int8]:
    scaling = numpy_math.scaling(scales, values.dtype, max_code)
    return numpy_math.quantize(values, scaling, max_code, saturate=True)


@pytest.mark.slow
@settings(max_examples=400)
@given(streams(), st.sampled_from(WireFormat))
def test_numpy_and_torch_bytes_equal_the_reference(stream: Stream, wire_format: WireFormat) -> None:
    expected = reference_messages(*stream, wire_format)
    assert encoded_messages(stream, wire_format, with_torch=False) == expected
    assert encoded_messages(stream, wire_format, with_torch=True) == expected
    with arithmetic_of_other_devices():
        assert encoded_messages(stream, wire_format, with_torch=True) == expected


@pytest.mark.parametrize("max_code", [127, 7])
def test_quantization_of_every_fp16_value_equals_the_formula(max_code: int) -> None:
    """All 63,488 finite fp16 values with scales from the whole range."""
    bits = np.arange(2**16, dtype=np.uint16)
    values = bits.view(np.float16)
    values = values[np.isfinite(values)][np.newaxis]
    for scale_bits in [1, 2, 3, 0x3FF, 0x400, 0x401, 0x3BFF, 0x3C00, 0x3C01, 0x4248, 0x57FF, 0x7BFE, 0x7BFF]:
        scales = np.array([scale_bits], np.uint16).view(np.float16)
        with np.errstate(over="ignore"):
            ratio = values.astype(np.float32) / scales.astype(np.float32)[:, None] * np.float32(max_code)
        expected = np.clip(np.rint(ratio), -max_code, max_code).astype(np.int8)
        np.testing.assert_array_equal(quantize_with_numpy(values, scales, max_code), expected)
        tensors = torch.from_numpy(values), torch.from_numpy(scales)
        scaling = torch_math.scaling(tensors[1], scales.dtype, max_code)
        codes = torch_math.quantize(tensors[0], scaling, max_code, saturate=True)
        np.testing.assert_array_equal(codes.numpy(), expected)


@pytest.mark.parametrize("pipeline", ["int8-adaptive", "int4-adaptive", "delta+int8"])
def test_bytes_do_not_depend_on_flushing_of_subnormals(pipeline: str) -> None:
    """Some libraries enable flush-to-zero for the thread that loads them."""
    rng = np.random.default_rng(3)
    latent = (rng.standard_normal((4, 8, 8)) * np.array([1e-7, 1e-5, 1e-2, 1])[:, None, None]).astype(np.float16)
    header = LatentStreamHeader("a/b", (4, 8, 8), LatentDtype.FP16, pipeline)
    stream = header, [latent, latent[::-1].copy()], [True, not header.pipeline_spec.delta]
    expected = encoded_messages(stream, WireFormat.MSGPACK, with_torch=False)
    assert torch.set_flush_denormal(True)
    try:
        assert encoded_messages(stream, WireFormat.MSGPACK, with_torch=False) == expected
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("max_code", [127, 7])
def test_every_significand_of_a_scale_has_the_codes_of_the_formula(max_code: int) -> None:
    """All 1,024 significands with all fp16 values up to the scale whose code is not always 0."""
    magnitudes = np.arange(0x3800, 0x5C00, dtype=np.uint16).view(np.float16)  # 0.5 to 255
    for scale_bits in range(0x5800, 0x5C00):  # 128 to 255
        scales = np.array([scale_bits], np.uint16).view(np.float16)
        values = magnitudes[np.newaxis, : scale_bits - 0x3800 + 1]
        expected = np.rint(values.astype(np.float32) / scales.astype(np.float32) * np.float32(max_code))
        scaling = numpy_math.scaling(scales, values.dtype, max_code)
        codes = numpy_math.quantize(values, scaling, max_code, saturate=False)
        np.testing.assert_array_equal(codes, expected.astype(np.int8))


@pytest.mark.parametrize("max_code", [127, 7])
def test_nearly_every_scale_has_a_multiplier_and_powers_of_two_shift_it(max_code: int) -> None:
    table = multipliers(max_code)
    missing = table[SMALLEST_SCALE_BITS:] == 0
    assert missing.mean() < 0.03
    assert not table[:SMALLEST_SCALE_BITS].any()
    for exponent in range(9, 30):
        bits = np.arange(1024) + (exponent << 10)
        np.testing.assert_array_equal(table[bits], table[bits + 1024] * np.float32(2))


def test_multiplying_by_a_quotient_gives_other_codes() -> None:
    """The order of operations matters for realistic latents, so the comparison above would detect this shortcut."""
    rng = np.random.default_rng(0)
    different = 0
    for _ in range(50):
        values = rng.standard_normal((4, 4096)).astype(np.float16)
        scales = numpy_math.channel_scales(values)
        shortcut = np.rint(values.astype(np.float32) * (np.float32(127) / scales.astype(np.float32))[:, None])
        different += bool((shortcut.astype(np.int8) != quantize_with_numpy(values, scales, 127)).any())
    assert different > 5


BAD_VALUES = [
    (dtype, bad, pipeline)
    for dtype in LatentDtype
    for bad in (np.nan, np.inf, -np.inf, 1e30)
    for pipeline in PIPELINES
    # 1e30 is a valid fp32 value unless a scale is computed from it
    if not (bad == 1e30 and dtype is LatentDtype.FP32 and pipeline in ("raw", "int8", "int4"))
]


@pytest.mark.parametrize(("dtype", "bad", "pipeline"), BAD_VALUES)
def test_nonfinite_value_raises_invalid_latents(dtype: LatentDtype, bad: float, pipeline: str) -> None:
    scales = np.full(2, 3, "<f2").tobytes() if pipeline in ("int8", "int4") else None
    header = LatentStreamHeader("a/b", (2, 3, 3), dtype, pipeline, scales)
    latent = np.ones((2, 3, 3), np.float32)
    latent[1, 2, 0] = bad
    with pytest.raises(InvalidLatents):
        LatentEncoder(header).encode(latent, keyframe=True, last=True)
    with arithmetic_of_other_devices(), pytest.raises(InvalidLatents):
        LatentEncoder(header).encode(torch.from_numpy(latent), keyframe=True, last=True)


@pytest.mark.parametrize("context", [nullcontext, arithmetic_of_other_devices])
@pytest.mark.parametrize("pipeline", ["delta+int8", "delta+int4"])
def test_nonfinite_residual_raises_invalid_latents(pipeline: str, context: Any) -> None:
    encoder = LatentEncoder(LatentStreamHeader("a/b", (1, 4), LatentDtype.FP16, pipeline))
    good, bad = np.ones((1, 4), np.float16), np.full((1, 4), np.nan, np.float16)
    with context():
        encoder.encode(torch.from_numpy(good), keyframe=True, last=False)
        with pytest.raises(InvalidLatents):
            encoder.encode(torch.from_numpy(bad), keyframe=False, last=True)


def test_bfloat16_tensor_is_cast_to_the_dtype_of_the_header() -> None:
    header = LatentStreamHeader("a/b", (1, 2, 2), LatentDtype.FP16, "raw")
    tensor = torch.tensor([[[0.1, -2.5], [3.0, 7.0]]], dtype=torch.bfloat16)
    frame = LatentEncoder(header).encode(tensor, keyframe=True, last=True)
    assert frame.data == tensor.to(torch.float16).numpy().tobytes()


@pytest.mark.parametrize("pipeline", ["raw", "int4", "int8-adaptive"])
def test_bytes_do_not_depend_on_memory_layout_or_byte_order(pipeline: str) -> None:
    latent = np.random.default_rng(1).standard_normal((4, 6, 5)).astype(np.float16)
    scales = np.full(4, 3, "<f2").tobytes() if pipeline == "int4" else None
    header = LatentStreamHeader("a/b", (4, 6, 5), LatentDtype.FP16, pipeline, scales)
    expected = LatentEncoder(header).encode(latent, keyframe=True, last=True)
    unaligned = np.frombuffer(b"-" + latent.tobytes(), "<f2", offset=1).reshape(latent.shape)
    read_only = np.frombuffer(latent.tobytes(), "<f2").reshape(latent.shape)
    copies = [np.asfortranarray(latent), latent.astype(">f2"), latent.astype(np.float64), latent[::-1][::-1]]
    for same in (*copies, unaligned, read_only):
        assert LatentEncoder(header).encode(same, keyframe=True, last=True) == expected


def test_frame_after_the_last_raises_value_error() -> None:
    encoder = LatentEncoder(LatentStreamHeader("a/b", (1, 2, 2), LatentDtype.FP16, "raw"))
    encoder.encode(np.zeros((1, 2, 2)), keyframe=True, last=True)
    with pytest.raises(ValueError, match="already encoded"):
        encoder.encode(np.zeros((1, 2, 2)), keyframe=True, last=True)


@pytest.mark.parametrize(
    ("shape", "keyframe", "message"),
    [((1, 2, 3), True, "latents must have the shape"), ((1, 2, 2), False, "must be a")],
)
def test_wrong_shape_or_missing_keyframe_raises_value_error(
    shape: tuple[int, ...], keyframe: bool, message: str
) -> None:
    encoder = LatentEncoder(LatentStreamHeader("a/b", (1, 2, 2), LatentDtype.FP16, "int8-adaptive"))
    with pytest.raises(ValueError, match=message):
        encoder.encode(np.zeros(shape), keyframe=keyframe, last=True)
