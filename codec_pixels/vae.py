"""Decoding of latents to pixels, with one function per class of VAE.

The server, the client and the tools for golden fixtures use this module, so that all of them decode latents to the same
pixels.
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
from codec_wire.first_line import first_line
from codec_wire.pipelines import torch_math

Decode: TypeAlias = Callable[[Any, Tensor], Tensor]
"""Function that takes a VAE and latents [F, C, h, w], and returns pixels in [-1, 1], [N, 3, H, W].

The number N of decoded frames equals the number F of latent frames if the VAE does not compress time. If the VAE
compresses time by a factor t, the number N of decoded frames is 1 + (F - 1) * t. The caller must reverse the pipeline's
scaling of the latents before calling the function.
"""


def _decode_images(vae: Any, latents: Tensor) -> Tensor:
    """Decode latent frames one by one, so that every image is independent and activation memory stays constant."""
    return torch.cat([vae.decode(one).sample for one in latents.unsqueeze(1)])


def _decode_frames_jointly(vae: Any, latents: Tensor) -> Tensor:
    """Decode all frames in one call, because a VAE with temporal layers decodes each frame with its neighbours."""
    pixels: Tensor = vae.decode(latents, num_frames=len(latents)).sample
    return pixels


def _decode_video(vae: Any, latents: Tensor, *arguments: Tensor) -> Tensor:
    """Decode the latents [F, C, h, w] of a video with a VAE that takes the shape [1, C, F, h, w]."""
    pixels: Tensor = vae.decode(latents.transpose(0, 1).unsqueeze(0), *arguments).sample[0]
    return pixels.transpose(0, 1)


def _decode_ltx_video(vae: Any, latents: Tensor) -> Tensor:
    """Decode a video with an LTX VAE. If the VAE also takes a timestep, pass 0, which means no noise."""
    if not vae.config.timestep_conditioning:
        return _decode_video(vae, latents)
    return _decode_video(vae, latents, torch.zeros(1, device=latents.device, dtype=latents.dtype))


VAE_DECODERS: dict[str, Decode] = {
    "AutoencoderKL": _decode_images,
    "AutoencoderKLFlux2": _decode_images,
    "AutoencoderKLHunyuanImage": _decode_images,
    "AutoencoderDC": _decode_images,
    "AutoencoderKLTemporalDecoder": _decode_frames_jointly,
    "AutoencoderKLCogVideoX": _decode_video,
    "AutoencoderKLHunyuanVideo": _decode_video,
    "AutoencoderKLWan": _decode_video,
    "AutoencoderKLQwenImage": _decode_video,
    "AutoencoderKLHunyuanVideo15": _decode_video,
    "AutoencoderKLMochi": _decode_video,
    "AutoencoderKLLTX2Video": _decode_ltx_video,
    "AutoencoderKLLTXVideo": _decode_ltx_video,
}
"""Decode function for each VAE class, keyed by the name of the class."""


def load_vae(model_class: str, path: str, **arguments: Any) -> Any:
    """Load a VAE of the diffusers class `model_class` from `path`, a directory or a Hugging Face repository.

    `arguments` are passed to the method `from_pretrained` of the class. Raises ModelLoadError if the class is not
    supported or the VAE cannot be loaded.
    """
    import diffusers  # noqa: PLC0415 - takes seconds

    _decoder_of(model_class)
    try:
        return getattr(diffusers, model_class).from_pretrained(path, **arguments).eval()
    except Exception as error:
        reason = first_line(error)
        raise ModelLoadError(f"cannot load the {model_class} at {path}: {reason}") from error


def vae_class_of(vae: Any) -> str:
    """Return the name of the class of `vae`, or of the first supported base class if `vae` has an unsupported class.

    Both the server and clients use the VAE as an instance of the returned class. Clients can load only classes of
    diffusers, not a subclass that a model defines. If neither the class of `vae` nor a base class is supported, return
    the name of the class of `vae`.
    """
    return _supported_class(vae).__name__


def _supported_class(vae: Any) -> type:
    return next((cls for cls in type(vae).__mro__ if cls.__name__ in VAE_DECODERS), type(vae))


def as_supported_class(vae: Any) -> Any:
    """Return `vae`, or a copy with the same weights, as an instance of the class that vae_class_of(vae) names."""
    vae_class = _supported_class(vae)
    if type(vae) is not vae_class:
        vae = copy.copy(vae)
        vae.__class__ = vae_class
    return vae


def is_offloaded(vae: Any) -> bool:
    """Return whether `vae` has offload hooks, which keep weights on the computing device only during a computation."""
    return any(hasattr(module, "_hf_hook") for module in vae.modules())


def decodes_frames_separately(vae: Any) -> bool:
    """Return whether decoding frames one by one gives the same pixels as decoding all frames in one call."""
    return VAE_DECODERS.get(vae_class_of(vae)) is _decode_images


@torch.inference_mode()
def decode_latents(vae: Any, latents: Tensor | NDArray[Any], pipeline_class: str | None) -> NDArray[np.uint8]:
    """Decode `latents` [F, C, h, w] to RGB pixels, uint8 [N, H, W, 3].

    The values of `latents` are scaled as in a latent stream. `pipeline_class` is the diffusers class of the pipeline
    that generated the latents; this class determines how the scaling is reversed. Without `pipeline_class`, the VAE
    determines the scaling (see latent_scaling.scaling_of). F is the number of latent frames, and N is the number of
    images or video frames (see Decode). An output x of the VAE is converted to x / 2 + 0.5, clamped to [0, 1],
    multiplied by 255, and rounded to the nearest integer, as in the image processor of diffusers. Raises ModelLoadError
    if the class of the VAE is not supported.
    """
    from diffusers.utils.torch_utils import get_module_execution_device  # noqa: PLC0415 - takes seconds

    vae = as_supported_class(vae)
    decode = _decoder_of(type(vae).__name__)
    scaling = scaling_of(pipeline_class, type(vae).__name__, vae)
    with upcast_if_required(vae, supported=scaling.upcast):
        # With offloading, the weights are on another device than the one that computes.
        values = torch.as_tensor(latents).to(device=get_module_execution_device(vae), dtype=vae.dtype)
        decoded = decode(vae, scaling.unscale(vae, values))
    return to_uint8(torch_math.to_host((decoded.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)))


def to_uint8(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return pixel values in [0, 1] as uint8 values in [0, 255], rounded to the nearest integer as in diffusers."""
    rounded: NDArray[np.uint8] = (pixels * 255).round().astype(np.uint8)
    return rounded


def _decoder_of(model_class: str) -> Decode:
    if model_class not in VAE_DECODERS:
        raise ModelLoadError(f"VAE class {model_class} is not supported; supported classes: {', '.join(VAE_DECODERS)}")
    return VAE_DECODERS[model_class]


@contextmanager
def upcast_if_required(vae: Any, *, supported: bool) -> Iterator[None]:
    """Convert an fp16 VAE to fp32 during the `with` block if the VAE's configuration has `force_upcast`.

    The VAE of SDXL requires fp32, because values inside this VAE overflow to NaN in fp16. `supported` states whether
    the pipeline class of diffusers converts the pipeline's VAE to fp32. If `supported` is false, the VAE is not
    converted and decodes in fp16.
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
