"""SSIM, PSNR and temporal SSIM compared with values computed independently."""

import numpy as np
import pytest

from codec_golden.metrics import psnr_db, ssim_of_frames, temporal_ssim


def test_psnr_and_ssim_of_flat_images() -> None:
    reference = np.zeros((1, 16, 16, 3), np.uint8)
    assert psnr_db(reference, reference) == float("inf")
    assert psnr_db(reference, reference + 1) == pytest.approx(48.1308, abs=1e-4)
    # For two flat images SSIM is only its luminance term: (2ab + C1) / (a^2 + b^2 + C1), C1 = (0.01 * 255)^2.
    a, b, c1 = 100, 110, 2.55**2
    flat = [np.full((1, 16, 16, 3), value, np.uint8) for value in (a, b)]
    assert ssim_of_frames(*flat) == [pytest.approx((2 * a * b + c1) / (a * a + b * b + c1), abs=1e-6)]


def test_flicker_lowers_temporal_ssim_but_not_ssim() -> None:
    rng = np.random.default_rng(0)
    still = np.repeat(rng.integers(40, 216, (1, 32, 32, 3)).astype(np.uint8), 6, axis=0)
    noise = rng.integers(-6, 7, (6, 32, 32, 3))
    flickers = (still + noise).astype(np.uint8)
    steady = (still + noise[:1]).astype(np.uint8)
    assert np.mean(ssim_of_frames(still, flickers)) == pytest.approx(np.mean(ssim_of_frames(still, steady)), abs=0.01)
    flicker, calm = temporal_ssim(still, flickers), temporal_ssim(still, steady)
    assert calm == 1.0
    assert flicker is not None
    assert flicker < 0.95
    assert temporal_ssim(still[:1], still[:1]) is None
