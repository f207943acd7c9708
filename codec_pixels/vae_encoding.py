"""Encoding of pixels to latents, the inverse of codec_pixels.vae.

Encoded latents are deterministic: either the mode of the VAE's distribution, or a sample that a seeded generator draws.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codec_pixels.latent_scaling import scaling_of
from codec_pixels.vae import as_supported_class, upcast_if_required
from codec_wire.errors import ModelLoadError

Encode: TypeAlias = Callable[[Any, Tensor, torch.Generator | None], Tensor]
"""Function that takes a VAE, pixels [N, 3, H, W] in [-1, 1] and a generator, and returns unscaled latents [F, C, h, w].

Without a generator, the latents are the mode of the VAE's distribution.
"""


def _encode_images(vae: Any, pixels: Tensor, generator: torch.Generator | None) -> Tensor:
    """Encode frames one by one, so that every latent frame is independent and activation memory stays constant."""
    # torch.split keeps the strides, which decide the memory format and with it the last bits.
    return torch.cat([latents_of(vae.encode(one), generator) for one in torch.split(pixels, 1)])


def _encode_video(vae: Any, pixels: Tensor, generator: torch.Generator | None) -> Tensor:
    """Encode the pixels [N, 3, H, W] of a video with a VAE that takes the shape [1, 3, N, H, W]."""
    return latents_of(vae.encode(pixels.transpose(0, 1).unsqueeze(0)), generator)[0].transpose(0, 1)


VAE_ENCODERS: dict[str, Encode] = {
    "AutoencoderKL": _encode_images,
    "AutoencoderKLFlux2": _encode_images,
    "AutoencoderKLHunyuanImage": _encode_images,
    "AutoencoderDC": _encode_images,
    "AutoencoderKLTemporalDecoder": _encode_images,
    "AutoencoderKLCogVideoX": _encode_video,
    "AutoencoderKLHunyuanVideo": _encode_video,
    "AutoencoderKLWan": _encode_video,
    "AutoencoderKLQwenImage": _encode_video,
    "AutoencoderKLHunyuanVideo15": _encode_video,
    "AutoencoderKLMochi": _encode_video,
    "AutoencoderKLLTX2Video": _encode_video,
    "AutoencoderKLLTXVideo": _encode_video,
}
"""Encode function for each VAE class, keyed by the name of the class."""


def latents_of(output: Any, generator: torch.Generator | None = None) -> Tensor:
    """Return the latents in the output of a VAE's encoder.

    If `output` contains a distribution, return a sample that `generator` draws. If `generator` is None, return the mode
    of the distribution.
    """
    latents: Tensor
    if not hasattr(output, "latent_dist"):
        latents = output.latent
    else:
        latents = output.latent_dist.mode() if generator is None else output.latent_dist.sample(generator)
    return latents


def draw_sample(vae: Any, shape: Sequence[int], pipeline_class: str, generator: torch.Generator) -> None:
    """Draw and discard the random numbers that are needed to sample the VAE's distribution for one image.

    The call advances the state of the CPU generator `generator` in the same way as the encoding of one image.

    `shape` is the shape of the latents, [C, h, w]. The random numbers have the dtype in which `pipeline_class` encodes
    images.
    """
    upcast = scaling_of(pipeline_class, type(vae).__name__, vae).upcast and vae.config.force_upcast
    torch.randn((1, *shape), generator=generator, dtype=torch.float32 if upcast else vae.dtype)


def encodes_frames_separately(vae: Any) -> bool:
    """Return whether encoding frames one by one gives the same latents as encoding all frames in one call."""
    return VAE_ENCODERS.get(type(as_supported_class(vae)).__name__) is _encode_images


@torch.inference_mode()
def encode_pixels(
    vae: Any, pixels: NDArray[np.uint8], pipeline_class: str | None, generator: torch.Generator | None = None
) -> Tensor:
    """Encode `pixels`, uint8 RGB [N, H, W, 3], to latents [F, C, h, w].

    The returned tensor is on the device of the VAE. The values of the tensor are scaled as in a latent stream.
    `pipeline_class` is the diffusers class of the pipeline that uses the latents; the class determines the scaling (see
    latent_scaling.scaling_of). If `generator` is given, `generator` draws the latents from the VAE's distribution. If
    `generator` is None, the latents are the mode of the distribution. Raises ModelLoadError if the class of the VAE is
    not supported.
    """
    from diffusers.utils.torch_utils import get_module_execution_device  # noqa: PLC0415 - takes seconds

    vae = as_supported_class(vae)
    name = type(vae).__name__
    if name not in VAE_ENCODERS:
        raise ModelLoadError(f"VAE class {name} is not supported; supported classes: {', '.join(VAE_ENCODERS)}")
    scaling = scaling_of(pipeline_class, name, vae)
    # The operations of diffusers' image processor.
    values = 2.0 * torch.from_numpy(pixels.astype(np.float32) / 255.0).permute(0, 3, 1, 2) - 1.0
    with upcast_if_required(vae, supported=scaling.upcast):
        encoded = VAE_ENCODERS[name](
            vae, values.to(device=get_module_execution_device(vae), dtype=vae.dtype), generator
        )
        return scaling.scale(vae, encoded)
