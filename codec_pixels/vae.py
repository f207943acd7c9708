"""From latents to pixels: what each class of VAE needs undone before its decoder, and the decoder itself.

The server renders with it, the client decodes with it, and golden pixels are made with it: one place, one result.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codec_wire.errors import ModelLoadError


@dataclass(frozen=True, slots=True)
class VaeRow:
    """One row: `decode` turns latents as they travel, [F, C, h, w], into pixels in -1…1, [pictures, 3, H, W].

    There are as many pictures as latents, or 1 + (F - 1) * t of them where the VAE compresses time by t.
    """

    decode: Callable[[Any, Tensor], Tensor]


def _pictures(vae: Any, latents: Tensor) -> Tensor:
    """Decode one by one: what a picture looks like must not depend on its neighbours, nor memory on their number."""
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    return torch.cat([vae.decode(one / vae.config.scaling_factor + shift).sample for one in latents.unsqueeze(1)])


def _pictures_together(vae: Any, latents: Tensor) -> Tensor:
    """Decode all at once: this decoder looks along time, so a picture depends on its neighbours."""
    pixels: Tensor = vae.decode(latents / vae.config.scaling_factor, num_frames=len(latents)).sample
    return pixels


def _video(vae: Any, latents: Tensor) -> Tensor:
    """Undo the scale. Latents become [1, C, F, h, w] for the decoder, and 1 + (F - 1) * t pictures come back."""
    return _decoded(vae, _as_video(latents) / vae.config.scaling_factor)


def _wan_video(vae: Any, latents: Tensor) -> Tensor:
    """Undo mean and deviation, which its configuration lists by channel."""
    mean, deviation = (
        torch.tensor(numbers, device=latents.device, dtype=latents.dtype).view(1, -1, 1, 1, 1)
        for numbers in (vae.config.latents_mean, vae.config.latents_std)
    )
    # Divided by the inverse, in the pipeline's own order of rounding.
    return _decoded(vae, _as_video(latents) / (1.0 / deviation) + mean)


def _ltx_video(vae: Any, latents: Tensor) -> Tensor:
    """Undo mean, deviation and scale; they lie beside the weights. Some decoders also want a time: 0, no noise."""
    mean, deviation = (
        numbers.to(latents.device, latents.dtype).view(1, -1, 1, 1, 1)
        for numbers in (vae.latents_mean, vae.latents_std)
    )
    plain = _as_video(latents) * deviation / vae.config.scaling_factor + mean
    if not vae.config.timestep_conditioning:
        return _decoded(vae, plain)
    return _decoded(vae, plain, torch.zeros(1, device=latents.device, dtype=latents.dtype))


def _as_video(latents: Tensor) -> Tensor:
    return latents.transpose(0, 1).unsqueeze(0)


def _decoded(vae: Any, latents: Tensor, *more: Tensor) -> Tensor:
    pixels: Tensor = vae.decode(latents, *more).sample[0]
    return pixels.transpose(0, 1)


VAE_DECODERS: dict[str, VaeRow] = {
    "AutoencoderKL": VaeRow(_pictures),
    "AutoencoderDC": VaeRow(_pictures),
    "AutoencoderKLTemporalDecoder": VaeRow(_pictures_together),
    "AutoencoderKLCogVideoX": VaeRow(_video),
    "AutoencoderKLHunyuanVideo": VaeRow(_video),
    "AutoencoderKLWan": VaeRow(_wan_video),
    "AutoencoderKLLTXVideo": VaeRow(_ltx_video),
}


def load_vae(model_class: str, place: str, **arguments: Any) -> Any:
    """Return the VAE of that class from a directory or hub id; `arguments` go to `from_pretrained`.

    Raises ModelLoadError for a class without a row, and where it cannot be loaded.
    """
    import diffusers  # noqa: PLC0415 - takes seconds

    if model_class not in VAE_DECODERS:
        raise ModelLoadError(f"VAEs of class {model_class} cannot be decoded here; known are {', '.join(VAE_DECODERS)}")
    try:
        return getattr(diffusers, model_class).from_pretrained(place, **arguments).eval()
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelLoadError(f"cannot load the {model_class} at {place}: {reason}") from error


@contextmanager
def _wide_enough(vae: Any) -> Iterator[None]:
    """Let a VAE that says so compute in fp32: in fp16 the decoder of Stable Diffusion XL overflows to NaN."""
    narrow = vae.dtype
    if narrow != torch.float16 or not getattr(vae.config, "force_upcast", False):
        yield
        return
    vae.to(torch.float32)
    try:
        yield
    finally:
        vae.to(narrow)


@torch.inference_mode()
def decode_latents(vae: Any, latents: Tensor | NDArray[Any]) -> NDArray[np.uint8]:
    """Return the pictures of latents as they travel, [F, C, h, w]: uint8 [pictures, H, W, 3].

    Rounds as diffusers' own image processor does: (x / 2 + 0.5), clamped to 0…1, times 255, to the nearest.
    Raises ModelLoadError for a VAE without a row.
    """
    row = VAE_DECODERS.get(type(vae).__name__)
    if row is None:
        raise ModelLoadError(f"VAEs of class {type(vae).__name__} cannot be decoded here; known are {', '.join(VAE_DECODERS)}")
    with _wide_enough(vae):
        given = torch.as_tensor(latents).to(device=vae.device, dtype=vae.dtype)
        decoded = row.decode(vae, given)
    pixels = (decoded.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
    rounded: NDArray[np.uint8] = (pixels * 255).round().astype(np.uint8)
    return rounded
