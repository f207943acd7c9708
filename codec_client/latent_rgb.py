"""Conversion of latents to approximate pixels without a VAE."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from codec_wire.decoder import DecodedLatent
from codec_wire.maps.latent_rgb import LatentRgb


def latent_to_rgb(latents: DecodedLatent | Sequence[DecodedLatent], matrix: LatentRgb) -> NDArray[np.uint8]:
    """Return the approximate colours of latents, one pixel per latent cell, without torch.

    Args:
        latents: One latent frame [C, h, w], such as PreviewLatents.latents, or several latent frames [F, C, h, w].
        matrix: The latent-to-RGB matrix of the latent space, as returned by LatentClient.latent_rgb().

    Returns:
        RGB values in an array of uint8. The shape of the array is [h, w, 3] for one latent frame, and [F, h, w, 3] for
        several latent frames. The result is smaller than the image that the VAE decodes. In the image that the VAE
        decodes, each latent cell covers several pixels per side, such as 8 pixels for Stable Diffusion. Before you show
        the result, enlarge the result to the size of the decoded image.

    Raises:
        ValueError: the latents have another number of channels than the matrix.

    """
    return matrix.to_rgb(np.asarray(latents))
