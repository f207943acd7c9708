"""The image quality metrics PSNR, SSIM, and SSIM of the differences between frames.

SSIM follows Wang et al., "Image quality assessment: from error visibility to structural similarity" (2004), with an
11x11 Gaussian window and sigma 1.5. SSIM is computed over the three channels of RGB images.
"""

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from codec_golden.storage import Pixels


def psnr_db(reference: Pixels, images: Pixels) -> float:
    """Return the peak signal-to-noise ratio over all frames together in dB, or infinity if the images are identical."""
    total = 0
    for one, other in zip(reference, images, strict=True):
        total += int(np.square(one.astype(np.int32) - other).sum())
    if total == 0:
        return float("inf")
    return float(10 * np.log10(255**2 * reference.size / total))


def ssim_of_frames(reference: Pixels, images: Pixels) -> list[float]:
    """Return the SSIM of each frame. The SSIM of identical frames is 1."""
    return [_ssim(one, other, 255) for one, other in zip(reference, images, strict=True)]


def temporal_ssim(reference: Pixels, images: Pixels) -> float | None:
    """Return the mean SSIM of the signed differences between neighbouring frames, or None for a single frame.

    Flicker lowers this metric, but does not always change the SSIM of the individual frames.
    """
    if len(reference) < 2:
        return None
    values = [
        _ssim(_frame_difference(reference, number), _frame_difference(images, number), 2 * 255)
        for number in range(1, len(reference))
    ]
    return float(np.mean(values))


def _frame_difference(frames: Pixels, number: int) -> NDArray[np.float32]:
    difference: NDArray[np.float32] = frames[number].astype(np.float32) - frames[number - 1]
    return difference


def _ssim(one: NDArray[np.generic], other: NDArray[np.generic], data_range: int) -> float:
    if np.array_equal(one, other):
        return 1.0
    value: float = structural_similarity(  # type: ignore[no-untyped-call]
        one,
        other,
        channel_axis=2,
        data_range=data_range,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return float(value)
