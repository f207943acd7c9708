"""Static scales: minimal squared error, and the reported quality of each pipeline."""

import numpy as np
import pytest

from codec_maps.scales import best_scales, measure_quality, static_scales
from codec_wire.latents import parse_scales


def gaussian(deviation: float = 1.0, count: int = 200_000, channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((channels, count)) * deviation).astype(np.float16)


def snr_db(scale: float, max_code: int, values: np.ndarray) -> float:
    exact = values.astype(np.float64)
    coded = np.clip(np.rint(exact / scale * max_code), -max_code, max_code) * scale / max_code
    return float(10 * np.log10((exact**2).sum() / ((exact - coded) ** 2).sum()))


def test_scale_of_a_gaussian_at_four_bits_is_the_theoretical_optimum() -> None:
    """2.45 standard deviations give 18.9 dB; the largest value as scale gives 16.0 dB."""
    values = gaussian()
    (scale,) = best_scales(values, 7).astype(float)
    assert scale == pytest.approx(2.45, abs=0.05)
    assert snr_db(scale, 7, values) == pytest.approx(18.9, abs=0.1)
    assert snr_db(float(np.abs(values[:, :4096]).max()), 7, values) < 17.5


def test_scale_at_eight_bits_is_close_to_the_largest_value() -> None:
    values = gaussian(count=4096)
    (scale,) = best_scales(values, 127).astype(float)
    assert scale > 0.85 * np.abs(values).max()


@pytest.mark.parametrize("max_code", [7, 127])
def test_no_other_scale_has_a_noticeably_smaller_error(max_code: int) -> None:
    rng = np.random.default_rng(1)
    values = np.stack([rng.laplace(size=5000), rng.uniform(-3, 3, 5000), rng.standard_normal(5000)]).astype(np.float16)
    chosen = best_scales(values, max_code)
    for channel, scale in enumerate(chosen.astype(float)):
        row = values[channel : channel + 1]
        others = np.linspace(0.05, 1.05, 400) * float(np.abs(row).max())
        assert snr_db(scale, max_code, row) >= max(snr_db(other, max_code, row) for other in others) - 0.02


def test_channel_of_zeros_has_scale_zero() -> None:
    values = np.zeros((2, 100), np.float16)
    values[1] = np.linspace(-1, 1, 100)
    scales = best_scales(values, 7)
    assert scales[0] == 0
    assert scales[1] > 0


def test_static_scales_can_be_parsed() -> None:
    latents = [gaussian(count=1024, channels=4).reshape(4, 32, 32), gaussian(count=256, channels=4).reshape(4, 16, 16)]
    scales = static_scales(latents)
    assert set(scales) == {"int8", "int4"}
    for data in scales.values():
        assert (parse_scales(data, 4) > 0).all()


def test_measured_quality_of_each_pipeline() -> None:
    latents = [gaussian(count=4096, channels=4).reshape(4, 64, 64)]
    scales = static_scales(latents)
    quality = {entry.pipeline: entry for entry in measure_quality(latents, scales)}
    assert set(quality) == {"int8", "int4", "int8-adaptive", "int4-adaptive"}
    assert quality["int8-adaptive"].saturated == quality["int4-adaptive"].saturated == 0
    assert 0.005 < quality["int4"].saturated < 0.03  # 1.4 % of a Gaussian is beyond 2.45 standard deviations
    assert quality["int4"].snr_db > quality["int4-adaptive"].snr_db + 1
    assert quality["int8"].snr_db > 40
