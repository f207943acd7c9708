"""Decoding of latents to pixels, with one function per class of VAE.

The server, the client and the golden fixtures all use this module, so they produce the same pixels.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codec_wire.errors import ModelLoadError

Decode: TypeAlias = Callable[[Any, Tensor], Tensor]
"""Function of a VAE and latents [F, C, h, w], scaled as on the wire, that returns pixels in [-1, 1], [N, 3, H, W].

N is F, or 1 + (F - 1) * t if the VAE compresses time by t. It first reverses the scaling that the diffusers pipeline
of this VAE applies, in the same order of operations.
"""


def _decode_images(vae: Any, latents: Tensor) -> Tensor:
    """Decode frames one by one, so that no image depends on the others and memory use does not grow with F."""
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    return torch.cat([vae.decode(one / vae.config.scaling_factor + shift).sample for one in latents.unsqueeze(1)])


def _decode_frames_jointly(vae: Any, latents: Tensor) -> Tensor:
    """Decode all frames in one call: this decoder has temporal layers, so each frame depends on its neighbours."""
    pixels: Tensor = vae.decode(latents / vae.config.scaling_factor, num_frames=len(latents)).sample
    return pixels


def _decode_video(vae: Any, latents: Tensor) -> Tensor:
    """Decode a video whose latents are scaled by `scaling_factor`."""
    return _run_video_decoder(vae, _to_video(latents) / vae.config.scaling_factor)


def _decode_wan_video(vae: Any, latents: Tensor) -> Tensor:
    """Decode a video whose latents are normalized per channel with the mean and deviation in the configuration."""
    mean, deviation = (
        torch.tensor(numbers, device=latents.device, dtype=latents.dtype).view(1, -1, 1, 1, 1)
        for numbers in (vae.config.latents_mean, vae.config.latents_std)
    )
    # The pipeline divides by the inverse; multiplying by the deviation would round differently.
    return _run_video_decoder(vae, _to_video(latents) / (1.0 / deviation) + mean)


def _decode_ltx_video(vae: Any, latents: Tensor) -> Tensor:
    """Decode a video whose latents are normalized with the mean and deviation stored as buffers of the VAE.

    Some of these decoders also take a timestep: 0, which means no noise.
    """
    mean, deviation = (
        numbers.to(latents.device, latents.dtype).view(1, -1, 1, 1, 1)
        for numbers in (vae.latents_mean, vae.latents_std)
    )
    unscaled = _to_video(latents) * deviation / vae.config.scaling_factor + mean
    if not vae.config.timestep_conditioning:
        return _run_video_decoder(vae, unscaled)
    return _run_video_decoder(vae, unscaled, torch.zeros(1, device=latents.device, dtype=latents.dtype))


def _to_video(latents: Tensor) -> Tensor:
    """Return [F, C, h, w] as [1, C, F, h, w]."""
    return latents.transpose(0, 1).unsqueeze(0)


def _run_video_decoder(vae: Any, video: Tensor, *arguments: Tensor) -> Tensor:
    """Return the pixels [N, 3, H, W] of unscaled latents [1, C, F, h, w]."""
    pixels: Tensor = vae.decode(video, *arguments).sample[0]
    return pixels.transpose(0, 1)


VAE_DECODERS: dict[str, Decode] = {
    "AutoencoderKL": _decode_images,
    "AutoencoderDC": _decode_images,
    "AutoencoderKLTemporalDecoder": _decode_frames_jointly,
    "AutoencoderKLCogVideoX": _decode_video,
    "AutoencoderKLHunyuanVideo": _decode_video,
    "AutoencoderKLWan": _decode_wan_video,
    "AutoencoderKLLTXVideo": _decode_ltx_video,
}
"""Decode function by class name of the VAE."""


def load_vae(model_class: str, path: str, **arguments: Any) -> Any:
    """Load the VAE of class `model_class` from a directory or Hugging Face repository.

    `arguments` are passed to `from_pretrained`. Raises ModelLoadError if the class is not supported or loading fails.
    """
    import diffusers  # noqa: PLC0415 - takes seconds

    _decoder_of(model_class)
    try:
        return getattr(diffusers, model_class).from_pretrained(path, **arguments).eval()
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelLoadError(f"cannot load the {model_class} at {path}: {reason}") from error


@torch.inference_mode()
def decode_latents(vae: Any, latents: Tensor | NDArray[Any]) -> NDArray[np.uint8]:
    """Return the pixels of latents [F, C, h, w], scaled as on the wire: uint8 RGB [N, H, W, 3].

    N is the number of images or video frames, see Decode. Values are rounded like in the image processor of diffusers:
    (x / 2 + 0.5), clamped to [0, 1], times 255, to the nearest integer. Raises ModelLoadError if the class of the VAE
    is not supported.
    """
    decode = _decoder_of(type(vae).__name__)
    with _upcast_if_required(vae):
        decoded = decode(vae, torch.as_tensor(latents).to(device=vae.device, dtype=vae.dtype))
    pixels = (decoded.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
    rounded: NDArray[np.uint8] = (pixels * 255).round().astype(np.uint8)
    return rounded


def _decoder_of(model_class: str) -> Decode:
    if model_class not in VAE_DECODERS:
        raise ModelLoadError(f"VAE class {model_class} is not supported; supported are {', '.join(VAE_DECODERS)}")
    return VAE_DECODERS[model_class]


@contextmanager
def _upcast_if_required(vae: Any) -> Iterator[None]:
    """Convert an fp16 VAE with `force_upcast` to fp32 while it is used: the one of SDXL overflows to NaN in fp16."""
    dtype = vae.dtype
    if dtype != torch.float16 or not getattr(vae.config, "force_upcast", False):
        yield
        return
    vae.to(torch.float32)
    try:
        yield
    finally:
        vae.to(dtype)
