"""Sharpness and detail of images, measured without a reference image, so that generated images can be measured.

Generated images show other content than rendered ones. Compare a measure with that of the VAE's reconstructions of
rendered scenes with the same labels: the decoder limits both in the same way.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from training.scenes.render import Image

Brightness = NDArray[np.float64]  # one image [H, W], in grey levels

EDGE_REACH, EDGE_CONTRAST = 9, 24.0  # an edge changes the brightness by EDGE_CONTRAST grey levels in EDGE_REACH pixels
FINE_WINDOW = 5  # structures smaller than this number of pixels are detail
SPACINGS = range(6, 49)  # distances in pixels between the repeated objects of a ghost row
ROW_WINDOW = 65  # brightness changes over more pixels than this are not objects


def brightness(image: Image) -> Brightness:
    """Return the mean of the colour channels of an image uint8 [H, W, 3]."""
    grey: Brightness = image.mean(axis=2, dtype=np.float64)
    return grey


def gradient_magnitude(images: Image) -> float:
    """Return the mean length of the brightness gradient of images uint8 [N, H, W, 3], in grey levels per pixel.

    It grows with the sharpness of edges and with their number.
    """
    total = 0.0
    for image in images:  # all evaluation images as floats would need more memory than a small machine has
        grey = brightness(image)
        down, across = np.diff(grey, axis=0)[:, :-1], np.diff(grey, axis=1)[:-1]
        total += float(np.hypot(down, across).mean())
    return total / len(images)


def sharpness(images: Image) -> float:
    """Return how steep the edges of images uint8 [N, H, W, 3] are, whatever their number and contrast.

    This is the share of the brightness change across an edge that takes place between two neighbouring pixels: 1 for a
    step, 1 / EDGE_REACH for a ramp. The result is 0 if no image has an edge.
    """
    shares = [share for image in images for share in _edge_shares(brightness(image))]
    return float(np.mean(np.concatenate(shares))) if shares else 0.0


def _edge_shares(grey: Brightness) -> list[Brightness]:
    """Return the steepest step of each edge as a share of the edge's change, for vertical and horizontal edges."""
    found = []
    for lines in (grey, grey.T):
        steps = np.diff(lines, axis=1)
        around = np.lib.stride_tricks.sliding_window_view(steps, EDGE_REACH, axis=1)
        change, steepest = np.abs(around.sum(axis=2)), np.abs(around).max(axis=2)
        centred = np.abs(around[:, :, EDGE_REACH // 2]) == steepest
        # An edge is monotonic: thin lines and texture change the brightness back again.
        monotonic = change > 0.98 * np.abs(around).sum(axis=2)
        edges = centred & monotonic & (change > EDGE_CONTRAST)
        if edges.any():
            found.append(steepest[edges] / change[edges])
    return found


def fine_detail(images: Image) -> float:
    """Return the mean deviation of pixels from their surroundings, in grey levels, of images uint8 [N, H, W, 3].

    The surroundings are FINE_WINDOW pixels wide, so stars, raindrops, windows and the outlines of objects count, and
    colour gradients do not.
    """
    window = (FINE_WINDOW, FINE_WINDOW)
    return float(np.mean([np.abs(grey - _local_mean(grey, window)).mean() for grey in map(brightness, images)]))


def _local_mean(grey: Brightness, window: tuple[int, int]) -> Brightness:
    """Return the mean of the pixels in a window of odd height and width around each pixel, [H, W]."""
    padding = (window[0] // 2, window[1] // 2)
    mean: Brightness = functional.avg_pool2d(
        torch.from_numpy(grey)[None], window, 1, padding, count_include_pad=False
    ).numpy()[0]
    return mean


def ghost_rows(images: Image) -> float:
    """Return how strongly one object is repeated along a row, in grey levels, averaged over images uint8 [N, H, W, 3].

    A model that does not know what is at the horizon draws a row of dots or posts with equal distances there. For each
    pixel row, the measure is its deviation from its surroundings times the prominence of the highest peak of its
    autocorrelation, which is 0 without repetition. The result of an image is the highest value of its rows.
    """
    return float(np.mean([_repetition(brightness(image)).max() for image in images]))


def _repetition(grey: Brightness) -> NDArray[np.float64]:
    """Return the strength of the repetition of each row of `grey`, [H]."""
    rows = grey - _local_mean(grey, (1, ROW_WINDOW))
    width = rows.shape[1]
    spectrum = np.fft.rfft(rows, 2 * width, axis=1)
    products = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, : SPACINGS.stop]
    energy = products[:, :1]
    overlap = 1 - np.arange(SPACINGS.stop) / width  # a shifted row overlaps the row by this share
    correlation = products / np.maximum(energy, 1e-9) / overlap
    # A peak counts by its height over the lowest value before it; a wide object has a high correlation without a peak.
    prominence = correlation - np.minimum.accumulate(correlation, axis=1)
    highest = np.clip(np.minimum(prominence, correlation)[:, SPACINGS.start :].max(axis=1), 0, 1)
    strength: NDArray[np.float64] = np.sqrt(energy[:, 0] / width) * highest
    return strength


MEASURES = {"sharpness": sharpness, "fine_detail": fine_detail, "ghost_rows": ghost_rows}


def compare_detail(generated: Image, reference: Image) -> dict[str, dict[str, float]]:
    """Return each measure of two sets of images uint8 [N, H, W, 3], and the ratio of the generated to the reference."""
    result = {}
    for name, measure in MEASURES.items():
        first, second = measure(generated), measure(reference)
        result[name] = {"generated": first, "reference": second, "ratio": first / max(second, 1e-9)}
    return result
