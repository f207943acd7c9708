"""The scaling of latents between a latent stream and the VAE, for each pipeline class of diffusers.

The configuration of a VAE can contain `scaling_factor`, `shift_factor`, `latents_mean` and `latents_std`. The class of
the pipeline, not the class of the VAE, determines which values of the VAE's configuration are applied. For example, the
SDXL pipelines apply `latents_mean` and `latents_std`, but the Stable Diffusion 1 pipelines ignore both. This module
performs the same operations on latents in the same order as the pinned version of diffusers. Another order of the
operations would round differently.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LatentScaling:
    """The two functions that convert latents between the scaling of a latent stream and the scaling of the VAE."""

    unscale: Callable[[Any, Tensor], Tensor]
    """Function that takes the VAE and latents [F, C, h, w] with the scaling of a latent stream. The function returns
    the input of the VAE's decoder."""
    scale: Callable[[Any, Tensor], Tensor]
    """Function that takes the VAE and the output [F, C, h, w] of the VAE's encoder. The function returns latents that
    are scaled as in a latent stream. If diffusers has an image-to-image class for the pipeline, the function `scale`
    performs the same operations as the image-to-image class."""
    upcast: bool = False
    """Whether the pipeline class converts an fp16 VAE to fp32 for decoding if the VAE's configuration has
    `force_upcast`."""


def _divide(vae: Any, latents: Tensor) -> Tensor:
    return latents / _factor(vae)


def _multiply(vae: Any, latents: Tensor) -> Tensor:
    """Multiply `latents` by the inverse of the scaling factor; a division by the factor would round differently."""
    return 1 / _factor(vae) * latents


def _divide_and_shift(vae: Any, latents: Tensor) -> Tensor:
    """Divide `latents` by the scaling factor, then add the shift factor. A missing shift factor counts as 0."""
    shift = vae.config.shift_factor
    return latents / _factor(vae) + float(0.0 if shift is None else shift)


def _divide_or_denormalize(vae: Any, latents: Tensor) -> Tensor:
    """Divide `latents` by the scaling factor.

    If the VAE's configuration has a mean and a deviation, also multiply by the deviation and add the mean, as in SDXL.
    """
    mean, deviation = (getattr(vae.config, name, None) for name in ("latents_mean", "latents_std"))
    if mean is None or deviation is None:
        return _divide(vae, latents)
    return latents * _per_channel(deviation, latents) / _factor(vae) + _per_channel(mean, latents)


def _denormalize_wan(vae: Any, latents: Tensor) -> Tensor:
    """Divide `latents` by the inverse of `latents_std`, and add `latents_mean`.

    The Wan pipelines of diffusers perform the same operations.
    """
    mean, deviation = (_statistic(vae, name, latents) for name in ("latents_mean", "latents_std"))
    return latents / (1.0 / deviation) + mean


def _denormalize_ltx(vae: Any, latents: Tensor) -> Tensor:
    """Multiply `latents` by the deviation, divide by the scaling factor, and add the mean.

    An LTX VAE stores the mean and the deviation as buffers.
    """
    mean, deviation = (_per_channel(values, latents) for values in (vae.latents_mean, vae.latents_std))
    return latents * deviation / _factor(vae) + mean


def _times_factor(vae: Any, encoded: Tensor) -> Tensor:
    return _factor(vae) * encoded


def _shift_and_multiply(vae: Any, encoded: Tensor) -> Tensor:
    """Subtract the shift from `encoded`, then multiply by the scaling factor. A missing shift counts as 0."""
    shift = vae.config.shift_factor
    return (encoded - float(0.0 if shift is None else shift)) * _factor(vae)


def _multiply_or_normalize(vae: Any, encoded: Tensor) -> Tensor:
    """Multiply `encoded` by the scaling factor.

    If the VAE's configuration has a mean and a deviation, also subtract the mean and divide by the deviation, as in
    SDXL.
    """
    mean, deviation = (getattr(vae.config, name, None) for name in ("latents_mean", "latents_std"))
    if mean is None or deviation is None:
        return _times_factor(vae, encoded)
    return (encoded - _per_channel(mean, encoded)) * _factor(vae) / _per_channel(deviation, encoded)


def _normalize_wan(vae: Any, encoded: Tensor) -> Tensor:
    mean, deviation = (_statistic(vae, name, encoded) for name in ("latents_mean", "latents_std"))
    return (encoded - mean) * (1.0 / deviation)


def _normalize_ltx(vae: Any, encoded: Tensor) -> Tensor:
    mean, deviation = (_per_channel(values, encoded) for values in (vae.latents_mean, vae.latents_std))
    return (encoded - mean) * _factor(vae) / deviation


def _statistic(vae: Any, name: str, latents: Tensor) -> Tensor:
    """Return the statistic `name` of each channel. The VAE of LTX-2 stores it in a buffer, not in its configuration."""
    return _per_channel(vae.config[name] if name in vae.config else getattr(vae, name), latents)


def _unchanged(_vae: Any, latents: Tensor) -> Tensor:
    """Return `latents` unchanged, for pipelines that reverse the scaling themselves, such as FLUX.2."""
    return latents


def _factor(vae: Any) -> float:
    return float(vae.config.scaling_factor)


def _per_channel(values: Any, latents: Tensor) -> Tensor:
    """Return `values`, one per channel, as a tensor [1, C, 1, 1] with the dtype and device of `latents`."""
    return torch.as_tensor(values).view(1, -1, 1, 1).to(latents.device, latents.dtype)


_DIVIDED = LatentScaling(_divide, _times_factor)
_MULTIPLIED = LatentScaling(_multiply, _times_factor)
_SHIFTED = LatentScaling(_divide_and_shift, _shift_and_multiply)
_UNSCALED = LatentScaling(_unchanged, _unchanged)
_WAN = LatentScaling(_denormalize_wan, _normalize_wan)
_SDXL = LatentScaling(_divide_or_denormalize, _multiply_or_normalize, upcast=True)

PIPELINE_SCALINGS: dict[str, LatentScaling] = {
    "StableDiffusionPipeline": _DIVIDED,
    "StableDiffusionImg2ImgPipeline": _DIVIDED,
    "StableDiffusionInpaintPipeline": _DIVIDED,
    "StableDiffusionControlNetPipeline": _DIVIDED,
    "StableDiffusionControlNetImg2ImgPipeline": _DIVIDED,
    "StableDiffusionXLPipeline": _SDXL,
    "StableDiffusionXLImg2ImgPipeline": _SDXL,
    "StableDiffusionXLInpaintPipeline": _SDXL,
    "StableDiffusionXLControlNetPipeline": _SDXL,
    "StableDiffusion3Pipeline": _SHIFTED,
    "StableDiffusion3Img2ImgPipeline": _SHIFTED,
    "FluxPipeline": _SHIFTED,
    "FluxImg2ImgPipeline": _SHIFTED,
    "FluxInpaintPipeline": _SHIFTED,
    "PixArtAlphaPipeline": _DIVIDED,
    "PixArtSigmaPipeline": _DIVIDED,
    "AnimateDiffPipeline": _MULTIPLIED,
    "AnimateDiffControlNetPipeline": _MULTIPLIED,
    "AnimateDiffSDXLPipeline": LatentScaling(_multiply, _times_factor, upcast=True),
    "LatentConsistencyModelPipeline": _DIVIDED,
    "LatentConsistencyModelImg2ImgPipeline": _DIVIDED,
    "AuraFlowPipeline": LatentScaling(_divide, _times_factor, upcast=True),
    "CogView4Pipeline": _DIVIDED,
    "SanaVideoPipeline": _WAN,
    "Kandinsky5T2IPipeline": _DIVIDED,
    "Kandinsky5I2IPipeline": _DIVIDED,
}
"""Scaling of each pipeline class that does not use the scaling in VAE_SCALINGS, keyed by the name of the class.

tests/test_families.py compares the decoded pixels of every supported class with the pixels that the pipeline itself
returns.
"""

VAE_SCALINGS: dict[str, LatentScaling] = {
    "AutoencoderDC": _DIVIDED,
    "AutoencoderKLTemporalDecoder": _MULTIPLIED,
    "AutoencoderKLCogVideoX": _MULTIPLIED,
    "AutoencoderKLHunyuanVideo": _DIVIDED,
    "AutoencoderKLFlux2": _UNSCALED,
    "AutoencoderKLLTX2Video": _UNSCALED,
    "AutoencoderKLWan": _WAN,
    "AutoencoderKLQwenImage": _WAN,
    "AutoencoderKLHunyuanVideo15": _DIVIDED,
    "AutoencoderKLHunyuanImage": _DIVIDED,
    "AutoencoderKLMochi": LatentScaling(_divide_or_denormalize, _multiply_or_normalize),
    "AutoencoderKLLTXVideo": LatentScaling(_denormalize_ltx, _normalize_ltx),
}
"""Scaling of each VAE class except AutoencoderKL, keyed by the name of the class."""
_CHANNELS_WITHOUT_SHIFT = 4
"""Number of latent channels of Stable Diffusion 1, 2 and XL. The pipelines of Stable Diffusion 1, 2 and XL ignore
`shift_factor`."""


def scaling_of(pipeline_class: str | None, vae_class: str, vae: Any) -> LatentScaling:
    """Return the scaling that `pipeline_class` applies to latents for its VAE.

    If `pipeline_class` is None or not in PIPELINE_SCALINGS, the VAE alone determines the scaling. The latents of an
    AutoencoderKL with 4 latent channels are scaled as in SDXL: the mean and deviation are applied if both are
    configured, and a shift is ignored. The latents of an AutoencoderKL with more than 4 latent channels are scaled as
    in Stable Diffusion 3 and Flux: the shift is applied. VAE_SCALINGS contains the scaling for every other class of
    VAE.
    """
    if pipeline_class in PIPELINE_SCALINGS:
        return PIPELINE_SCALINGS[pipeline_class]
    if vae_class in VAE_SCALINGS:
        return VAE_SCALINGS[vae_class]
    return _SDXL if vae.config.latent_channels == _CHANNELS_WITHOUT_SHIFT else _SHIFTED
