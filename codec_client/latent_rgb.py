"""Conversion of latents to approximate pixels without a VAE."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from codec_wire.decoder import DecodedLatent
from codec_wire.maps.latent_rgb import LatentRgb


def latent_to_rgb(latents: DecodedLatent | Sequence[DecodedLatent], matrix: LatentRgb) -> NDArray[np.uint8]:
    """Return the approximate colours of latents, one pixel per latent cell, without torch.

    Args:
        latents: One latent frame [C, h, w], for example PreviewLatents.latents, or several latent frames [F, C, h, w].
        matrix: The matrix of the latent space, from LatentClient.latent_rgb().

    Returns:
        RGB values, an array [h, w, 3] of uint8, or [F, h, w, 3] for several frames. The result is smaller than the
        decoded image, in which each latent cell covers several pixels per side (8 for Stable Diffusion). Enlarge the
        result to show it.

    Raises:
        ValueError: the latents have another number of channels than the matrix.

    """
    return matrix.to_rgb(np.asarray(latents))
