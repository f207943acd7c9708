"""Computation of the latent-to-RGB matrix, by a least-squares fit to the pixels that the VAE decodes."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codec_maps.corpus import Sample
from codec_wire.errors import OutOfMemory
from codec_wire.maps.latent_rgb import LatentRgb

log = logging.getLogger(__name__)

Decode = Callable[[NDArray[np.float32]], NDArray[np.uint8]]
"""Function that decodes latents [F, C, h, w] to pixels [N, H, W, 3]."""


@dataclass(frozen=True, slots=True)
class DecodedSample:
    """The latent frames [F, C, h, w] of a sample, and the decoded pixels, an array [N, H, W, 3] of uint8.

    The number N of decoded images is larger than the number F of latent frames if the VAE compresses time. With a VAE
    that compresses time, the first latent frame decodes to one video frame. All later latent frames decode to equal
    numbers of video frames.
    """

    latents: NDArray[np.float32]
    pixels: NDArray[np.uint8]


def measure_latent_rgb(latent_space: str, samples: Sequence[Sample], decode: Decode) -> LatentRgb | None:
    """Return the matrix fitted to the samples that are not held out, or to all samples if all are held out.

    A sample is skipped if the device has too little memory to decode the sample. Return None if no sample was decoded.
    """
    decoded = []
    for sample in [one for one in samples if not one.held_out] or samples:
        latents = np.stack(sample.latents).astype(np.float32)
        try:
            decoded.append(DecodedSample(latents, decode(latents)))
        except OutOfMemory as error:
            log.warning("skipped a sample for the latent-to-RGB matrix: %s", error)
    return fit_latent_rgb(latent_space, decoded) if decoded else None


def cell_colours(sample: DecodedSample) -> NDArray[np.float64]:
    """Return an array [F, h, w, 3] with the mean colour of the pixels that each latent cell covers.

    Colours are in [0, 1].
    """
    frames, _, height, width = sample.latents.shape
    rows, columns = (side // cells for side, cells in zip(sample.pixels.shape[1:3], (height, width), strict=True))
    cells: NDArray[np.float64] = sample.pixels.reshape(-1, height, rows, width, columns, 3).mean(axis=(2, 4)) / 255
    if len(cells) == frames:
        return cells
    later = cells[1:].reshape(frames - 1, -1, height, width, 3).mean(axis=1)
    return np.concatenate([cells[:1], later])


def fit_latent_rgb(latent_space: str, samples: Sequence[DecodedSample]) -> LatentRgb:
    """Return the matrix with the smallest squared error over all cells of `samples`. `samples` must not be empty."""
    latents = [np.moveaxis(sample.latents, 1, -1).reshape(-1, sample.latents.shape[1]) for sample in samples]
    cells = np.concatenate(latents).astype(np.float64)
    colours = np.concatenate([cell_colours(sample).reshape(-1, 3) for sample in samples])
    solution = np.linalg.lstsq(np.column_stack([cells, np.ones(len(cells))]), colours, rcond=None)[0].round(6)
    return LatentRgb(
        latent_space=latent_space,
        matrix=tuple(map(tuple, solution[:-1].tolist())),
        bias=tuple(solution[-1].tolist()),
    )
