"""Chooses static scales from latents that a model really made, and says what every pipeline keeps of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codec_wire.pipelines import PIPELINES, Pipeline, Scales, numpy_math
from codec_wire.pipelines.inverse import dequantize

Latents = Sequence[NDArray[np.float16]]
"""Frames [channels, ...] of one latent space; sizes may differ."""

_COARSE = np.linspace(0.1, 1.0, 91, dtype=np.float32)
_FINE = np.linspace(-0.01, 0.01, 21, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Quality:
    """What a pipeline keeps: signal-to-noise ratio in dB, and the share of values that its scales cut off."""

    pipeline: str
    snr_db: float
    saturated: float


def static_scales(latents: Latents) -> dict[str, bytes]:
    """Return the scales of each static pipeline, one little-endian fp16 per channel, by the pipeline's name."""
    values = _joined(latents)
    rows = (row for row in PIPELINES.values() if row.scales is Scales.STATIC)
    return {row.name: best_scales(values, row.max_code).astype("<f2").tobytes() for row in rows}


def best_scales(values: NDArray[np.float16], max_code: int) -> NDArray[np.float16]:
    """Return the scale per channel that gives `values` [channels, n] the least squared error, clipping included.

    Cutting off a few large values makes the steps finer for all others: at 4 bits the best scale of a Gaussian is
    about 2.45 standard deviations, at 8 bits it is close to the largest value. Searched in steps of 1 % of the
    largest value, and then of 0.1 %.
    """
    largest = np.abs(values.astype(np.float32)).max(axis=1)
    best = _least_error(values, max_code, (largest * share for share in _COARSE))
    return _least_error(values, max_code, (best.astype(np.float32) + largest * share for share in _FINE))


def _least_error(
    values: NDArray[np.float16], max_code: int, candidates: Iterator[NDArray[np.float32]]
) -> NDArray[np.float16]:
    chosen = np.zeros(values.shape[0], np.float16)
    least = np.full(values.shape[0], np.inf)
    for candidate in candidates:
        scales = np.maximum(candidate, 0).astype(np.float16)
        error = _noise(values, scales, max_code)
        better = error < least
        chosen[better], least[better] = scales[better], error[better]
    return chosen


def _noise(values: NDArray[np.float16], scales: NDArray[np.float16], max_code: int) -> NDArray[np.float64]:
    """Return the squared error per channel of quantizing `values` against `scales` and back."""
    divisors = numpy_math.divisors(scales, values.dtype)
    codes = numpy_math.quantize(values, divisors, max_code, saturate=True)
    difference = dequantize(codes, scales, max_code) - values.astype(np.float32)
    noise: NDArray[np.float64] = np.square(difference, dtype=np.float64).sum(axis=1)
    return noise


def measure(latents: Latents, scales: Mapping[str, bytes]) -> list[Quality]:
    """Return the quality of every quantizing pipeline that an image can have, static ones with `scales`."""
    rows = [row for row in PIPELINES.values() if row.bits is not None and not row.video_only]
    return [_quality(row, latents, scales.get(row.name)) for row in rows]


def _quality(row: Pipeline, latents: Latents, static: bytes | None) -> Quality:
    signal = noise = 0.0
    cut = count = 0
    for latent in latents:
        values: NDArray[np.float16] = latent.reshape(latent.shape[0], -1)
        frame_scales = numpy_math.channel_scales(values) if static is None else np.frombuffer(static, "<f2")
        noise += float(_noise(values, frame_scales, row.max_code).sum())
        signal += float(np.square(values, dtype=np.float64).sum())
        cut += int((np.abs(values) > frame_scales[:, np.newaxis]).sum())
        count += values.size
    snr = np.inf if noise == 0 else 10 * np.log10(signal / noise) if signal else -np.inf
    return Quality(row.name, float(snr), cut / count)


def _joined(latents: Latents) -> NDArray[np.float16]:
    return np.concatenate([latent.reshape(latent.shape[0], -1) for latent in latents], axis=1)
