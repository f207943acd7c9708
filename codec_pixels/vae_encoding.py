"""Encoding of pixels to latents, the inverse of codec_pixels.vae. Deterministic: the mode of the VAE's distribution."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codec_pixels.latent_scaling import scaling_of
from codec_pixels.vae import as_supported_class, upcast_if_required
from codec_wire.errors import ModelLoadError

Encode: TypeAlias = Callable[[Any, Tensor], Tensor]
"""Function of a VAE and pixels in [-1, 1], [N, 3, H, W], that returns the output of its encoder, [F, C, h, w]."""


def _encode_images(vae: Any, pixels: Tensor) -> Tensor:
    """Encode frames one by one, so that no latent depends on the others and memory use does not grow with N."""
    # torch.split keeps the strides, which decide the memory format and with it the last bits.
    return torch.cat([mode_of(vae.encode(one)) for one in torch.split(pixels, 1)])


def _encode_video(vae: Any, pixels: Tensor) -> Tensor:
    """Encode a video [1, 3, N, H, W]."""
    return mode_of(vae.encode(pixels.transpose(0, 1).unsqueeze(0)))[0].transpose(0, 1)


VAE_ENCODERS: dict[str, Encode] = {
    "AutoencoderKL": _encode_images,
    "AutoencoderDC": _encode_images,
    "AutoencoderKLTemporalDecoder": _encode_images,
    "AutoencoderKLCogVideoX": _encode_video,
    "AutoencoderKLHunyuanVideo": _encode_video,
    "AutoencoderKLWan": _encode_video,
    "AutoencoderKLLTXVideo": _encode_video,
}
"""Encode function by class name of the VAE."""


def mode_of(output: Any) -> Tensor:
    """Return the latents of a VAE's output: the mode of its distribution, or the only value."""
    latents: Tensor = output.latent_dist.mode() if hasattr(output, "latent_dist") else output.latent
    return latents


def encodes_frames_separately(vae: Any) -> bool:
    """Return whether the frames of a video can be encoded one by one, with the same latents as in one call."""
    return VAE_ENCODERS.get(type(as_supported_class(vae)).__name__) is _encode_images


@torch.inference_mode()
def encode_pixels(vae: Any, pixels: NDArray[np.uint8], pipeline_class: str | None) -> Tensor:
    """Return the latents [F, C, h, w] of pixels, uint8 RGB [N, H, W, 3], scaled as on the wire, on the VAE's device.

    `pipeline_class` is the diffusers class of the pipeline that the latents are for: it determines how they are scaled
    (see latent_scaling.scaling_of). Raises ModelLoadError if the class of the VAE is not supported.
    """
    from diffusers.utils.torch_utils import get_module_execution_device  # noqa: PLC0415 - takes seconds

    vae = as_supported_class(vae)
    name = type(vae).__name__
    if name not in VAE_ENCODERS:
        raise ModelLoadError(f"VAE class {name} is not supported; supported are {', '.join(VAE_ENCODERS)}")
    scaling = scaling_of(pipeline_class, name, vae)
    # The operations of diffusers' image processor.
    values = 2.0 * torch.from_numpy(pixels.astype(np.float32) / 255.0).permute(0, 3, 1, 2) - 1.0
    with upcast_if_required(vae, supported=scaling.upcast):
        encoded = VAE_ENCODERS[name](vae, values.to(device=get_module_execution_device(vae), dtype=vae.dtype))
        return scaling.scale(vae, encoded)
