"""Computation of static scales from samples of latents, and measurement of the quality of encoding pipelines."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codec_wire.pipelines import PIPELINES, Pipeline, Scales, numpy_math
from codec_wire.pipelines.inverse import dequantize

Latents = Sequence[NDArray[np.float16]]
"""Latent frames [channels, ...] of one latent space. The latent frames may differ in width and height."""

_COARSE = np.linspace(0.1, 1.0, 91, dtype=np.float32)
_FINE = np.linspace(-0.01, 0.01, 21, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Quality:
    """Quality of an encoding pipeline: signal-to-noise ratio in dB, and the fraction of values that the scales clip."""

    pipeline: str
    snr_db: float
    saturated: float


def static_scales(latents: Latents) -> dict[str, bytes]:
    """Return a dictionary of static scales by the name of the encoding pipeline.

    Encoding pipelines that need no static scales are left out. Static scales are one little-endian fp16 number per
    channel.
    """
    values = _concatenated(latents)
    static = (spec for spec in PIPELINES.values() if spec.scales is Scales.STATIC)
    return {spec.name: best_scales(values, spec.max_code).astype("<f2").tobytes() for spec in static}


def best_scales(values: NDArray[np.float16], max_code: int) -> NDArray[np.float16]:
    """Return the fp16 scale of each channel that gives the least squared error for `values` [channels, n].

    The error includes the error of clipped values. Clipping a few large values makes the quantization steps of all
    other values smaller. For a Gaussian distribution, the best scale is about 2.45 standard deviations with 4 bits, and
    close to the largest value with 8 bits. The search uses steps of 1 % of the largest value, and then steps of 0.1 %.
    """
    largest = np.abs(values.astype(np.float32)).max(axis=1)
    best = _least_error(values, max_code, (largest * fraction for fraction in _COARSE))
    return _least_error(values, max_code, (best.astype(np.float32) + largest * fraction for fraction in _FINE))


def _least_error(
    values: NDArray[np.float16], max_code: int, candidates: Iterator[NDArray[np.float32]]
) -> NDArray[np.float16]:
    best = np.zeros(values.shape[0], np.float16)
    least = np.full(values.shape[0], np.inf)
    for candidate in candidates:
        scales = np.maximum(candidate, 0).astype(np.float16)
        error = _noise(values, scales, max_code)
        better = error < least
        best[better], least[better] = scales[better], error[better]
    return best


def _noise(values: NDArray[np.float16], scales: NDArray[np.float16], max_code: int) -> NDArray[np.float64]:
    """Return the squared error of each channel after `values` are quantized and dequantized with `scales`."""
    scaling = numpy_math.scaling(scales, values.dtype, max_code)
    codes = numpy_math.quantize(values, scaling, max_code, saturate=True)
    difference = dequantize(codes, scales, max_code) - values.astype(np.float32)
    noise: NDArray[np.float64] = np.square(difference, dtype=np.float64).sum(axis=1)
    return noise


def measure_quality(latents: Latents, scales: Mapping[str, bytes]) -> list[Quality]:
    """Return the quality of every encoding pipeline that quantizes and supports images.

    `scales` is a dictionary of static scales by the name of the encoding pipeline.
    """
    quantizing = [spec for spec in PIPELINES.values() if spec.bits is not None and not spec.video_only]
    return [_quality(spec, latents, scales.get(spec.name)) for spec in quantizing]


def _quality(spec: Pipeline, latents: Latents, static: bytes | None) -> Quality:
    signal = noise = 0.0
    clipped = count = 0
    for latent in latents:
        values: NDArray[np.float16] = latent.reshape(latent.shape[0], -1)
        frame_scales = numpy_math.channel_scales(values) if static is None else np.frombuffer(static, "<f2")
        noise += float(_noise(values, frame_scales, spec.max_code).sum())
        signal += float(np.square(values, dtype=np.float64).sum())
        clipped += int((np.abs(values) > frame_scales[:, np.newaxis]).sum())
        count += values.size
    snr = np.inf if noise == 0 else 10 * np.log10(signal / noise) if signal else -np.inf
    return Quality(spec.name, float(snr), clipped / count)


def _concatenated(latents: Latents) -> NDArray[np.float16]:
    return np.concatenate([latent.reshape(latent.shape[0], -1) for latent in latents], axis=1)
