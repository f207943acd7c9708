"""Entropy bound: values counted by hand, and the entropy of a Gaussian."""

import math

import numpy as np
import pytest

from codec_maps.entropy import entropy_bound
from codec_maps.scales import static_scales
from codec_wire.encoder import LatentEncoder
from codec_wire.latents import LatentDtype, LatentFrame, LatentStreamHeader


def header(pipeline: str, shape: tuple[int, ...] = (1, 8)) -> LatentStreamHeader:
    scales = b"\0\x3c" * shape[0] if pipeline == "int8" else None
    return LatentStreamHeader("a/b", shape, LatentDtype.FP16, pipeline, scales, total_frames=1)


def frame(data: bytes) -> LatentFrame:
    return LatentFrame(data, 0, keyframe=True, done=True)


def test_symbols_at_eight_bits_are_bytes() -> None:
    assert entropy_bound(header("int8"), [frame(b"\1" * 8)]) == 0
    assert entropy_bound(header("int8"), [frame(bytes(range(8)))]) == pytest.approx(3)
    assert entropy_bound(header("int8"), [frame(b"\0\0\0\0\1\1\1\1")] * 2) == pytest.approx(2)


def test_scales_are_not_counted_and_symbols_at_four_bits_are_nibbles() -> None:
    assert entropy_bound(header("int8-adaptive"), [frame(b"\x12\x34" + b"\1" * 8)]) == 0
    assert entropy_bound(header("int4-adaptive"), [frame(b"\x12\x34" + b"\x10\x32\x10\x32")]) == pytest.approx(2)


def test_bytes_of_raw_values_are_counted_separately() -> None:
    assert entropy_bound(header("raw"), [frame(b"\1\2" * 8)]) == 0


@pytest.mark.parametrize(
    ("pipeline", "side", "share"),
    [
        ("int8-adaptive", 32, 0.10),
        ("int8-adaptive", 64, 0.11),
        ("int8", 64, 0.12),
        ("int4-adaptive", 32, 0.22),
        ("int4-adaptive", 64, 0.26),
        ("int4-adaptive", 256, 0.32),
        ("int4", 32, 0.12),
        ("int4", 64, 0.12),
    ],
)
def test_possible_saving_of_gaussian_latents(pipeline: str, side: int, share: float) -> None:
    """The numbers in docs/compression.md, for images with eight times that side."""
    shape = (4, side, side)
    latent = np.random.default_rng(0).standard_normal(shape).astype(np.float16)
    scales = static_scales([latent]).get(pipeline)
    stream = LatentStreamHeader("a/b", shape, LatentDtype.FP16, pipeline, scales, total_frames=1)
    encoded = LatentEncoder(stream).encode(latent, keyframe=True, last=True)
    values = stream.pipeline_spec.values_size(shape, 2)
    assert 1 - entropy_bound(stream, [encoded]) / values == pytest.approx(share, abs=0.012)


def test_possible_saving_of_a_gaussian_at_eight_bits_is_about_eleven_percent() -> None:
    """Its entropy is log2(sqrt(2 pi e) / step) bits (Cover and Thomas, 8.4); the step is the largest value / 127."""
    shape = (4, 64, 64)
    latent = np.random.default_rng(0).standard_normal(shape).astype(np.float16)
    stream = header("int8-adaptive", shape)
    encoded = LatentEncoder(stream).encode(latent, keyframe=True, last=True)
    theory = np.mean(
        [math.log2(math.sqrt(2 * math.pi * math.e) * 127 / float(np.abs(channel).max())) for channel in latent]
    )
    saving = 1 - entropy_bound(stream, [encoded]) / latent.size
    assert saving == pytest.approx(1 - theory / 8, abs=0.01)
    assert 0.10 < saving < 0.13
