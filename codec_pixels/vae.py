"""Decoding of latents to pixels, with one function per class of VAE.

The server, the client and the golden fixtures all use this module, so they produce the same pixels.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codec_pixels.latent_scaling import scaling_of
from codec_wire.errors import ModelLoadError

Decode: TypeAlias = Callable[[Any, Tensor], Tensor]
"""Function of a VAE and latents [F, C, h, w] that returns pixels in [-1, 1], [N, 3, H, W].

N is F, or 1 + (F - 1) * t if the VAE compresses time by t. The scaling of the pipeline is already reversed.
"""


def _decode_images(vae: Any, latents: Tensor) -> Tensor:
    """Decode frames one by one, so that no image depends on the others and memory use does not grow with F."""
    return torch.cat([vae.decode(one).sample for one in latents.unsqueeze(1)])


def _decode_frames_jointly(vae: Any, latents: Tensor) -> Tensor:
    """Decode all frames in one call: this decoder has temporal layers, so each frame depends on its neighbours."""
    pixels: Tensor = vae.decode(latents, num_frames=len(latents)).sample
    return pixels


def _decode_video(vae: Any, latents: Tensor, *arguments: Tensor) -> Tensor:
    """Decode a video [1, C, F, h, w]."""
    pixels: Tensor = vae.decode(latents.transpose(0, 1).unsqueeze(0), *arguments).sample[0]
    return pixels.transpose(0, 1)


def _decode_ltx_video(vae: Any, latents: Tensor) -> Tensor:
    """Decode a video. Some of these decoders also take a timestep: 0, which means no noise."""
    if not vae.config.timestep_conditioning:
        return _decode_video(vae, latents)
    return _decode_video(vae, latents, torch.zeros(1, device=latents.device, dtype=latents.dtype))


VAE_DECODERS: dict[str, Decode] = {
    "AutoencoderKL": _decode_images,
    "AutoencoderDC": _decode_images,
    "AutoencoderKLTemporalDecoder": _decode_frames_jointly,
    "AutoencoderKLCogVideoX": _decode_video,
    "AutoencoderKLHunyuanVideo": _decode_video,
    "AutoencoderKLWan": _decode_video,
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


def vae_class_of(vae: Any) -> str:
    """Return the name of the class that decodes the latents of `vae`: its own, or the nearest supported base class.

    Clients can load only diffusers' own classes, so a subclass is decoded as its base class. If no base class is
    supported, the name of the VAE's own class is returned.
    """
    return _supported_class(vae).__name__


def _supported_class(vae: Any) -> type:
    return next((cls for cls in type(vae).__mro__ if cls.__name__ in VAE_DECODERS), type(vae))


def as_supported_class(vae: Any) -> Any:
    """Return `vae`, or a copy that shares its weights and has the class that decodes its latents. See vae_class_of."""
    vae_class = _supported_class(vae)
    if type(vae) is not vae_class:
        vae = copy.copy(vae)
        vae.__class__ = vae_class
    return vae


def is_offloaded(vae: Any) -> bool:
    """Return whether `vae` has offload hooks, which move its weights to the device only while it computes."""
    return any(hasattr(module, "_hf_hook") for module in vae.modules())


def decodes_frames_separately(vae: Any) -> bool:
    """Return whether the frames of a video can be decoded one by one, with the same pixels as in one call."""
    return VAE_DECODERS.get(vae_class_of(vae)) is _decode_images


@torch.inference_mode()
def decode_latents(vae: Any, latents: Tensor | NDArray[Any], pipeline_class: str | None) -> NDArray[np.uint8]:
    """Decode latents [F, C, h, w], which are scaled as in the stream, to RGB pixels, uint8 [N, H, W, 3].

    `pipeline_class` is the diffusers class of the pipeline that generated the latents: it determines how the scaling is
    reversed. If the class is unknown (None), the configuration of the VAE determines the scaling (see
    latent_scaling.scaling_of). N is the number of images or video frames, see Decode. Values are rounded like in the
    image processor of diffusers: (x / 2 + 0.5), clamped to [0, 1], times 255, to the nearest integer. Raises
    ModelLoadError if the class of the VAE is not supported.
    """
    from diffusers.utils.torch_utils import get_module_execution_device  # noqa: PLC0415 - takes seconds

    vae = as_supported_class(vae)
    decode = _decoder_of(type(vae).__name__)
    scaling = scaling_of(pipeline_class, type(vae).__name__, vae)
    with upcast_if_required(vae, supported=scaling.upcast):
        # With offloading, the weights are on another device than the one that computes.
        values = torch.as_tensor(latents).to(device=get_module_execution_device(vae), dtype=vae.dtype)
        decoded = decode(vae, scaling.unscale(vae, values))
    pixels = (decoded.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
    return to_uint8(pixels)


def to_uint8(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return pixels in [0, 1] as 8-bit values, rounded to the nearest integer as diffusers does."""
    rounded: NDArray[np.uint8] = (pixels * 255).round().astype(np.uint8)
    return rounded


def _decoder_of(model_class: str) -> Decode:
    if model_class not in VAE_DECODERS:
        raise ModelLoadError(f"VAE class {model_class} is not supported; supported classes: {', '.join(VAE_DECODERS)}")
    return VAE_DECODERS[model_class]


@contextmanager
def upcast_if_required(vae: Any, *, supported: bool) -> Iterator[None]:
    """Convert an fp16 VAE with `force_upcast` to fp32 in the `with` block: SDXL's VAE overflows to NaN in fp16.

    `supported` states whether the pipeline class does this. Other classes ignore `force_upcast` and decode in fp16.
    """
    dtype = vae.dtype
    if not supported or dtype != torch.float16 or not getattr(vae.config, "force_upcast", False):
        yield
        return
    vae.to(torch.float32)
    try:
        yield
    finally:
        vae.to(dtype)
