"""Scenes encoded once: the latents that the denoiser trains on, kept on disk beside their VAE."""

import hashlib
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from rich.progress import track
from safetensors.torch import load_file, save_file

from training.finish_vae import encode
from training.pictures import draw_scenes, renderer_mark

CHUNK = 500  # scenes to a file


def encoder_mark(vae: AutoencoderKL) -> str:
    """Return a short name for the encoding half of a VAE: a better decoder does not make latents stale."""
    digest = hashlib.sha256(str(vae.config.scaling_factor).encode())
    for half in (vae.encoder, vae.quant_conv):
        for weight in half.state_dict().values():
            digest.update(weight.cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


def scene_latents(folder: Path, vae: AutoencoderKL, count: int, side: int) -> torch.Tensor:
    """Return the scaled latents of scenes 0…count, float16 [count, 4, side, side], none of another VAE's."""
    home = folder / f"latents-{renderer_mark()}-{encoder_mark(vae)}"
    parts = []
    for first in track(range(0, count, CHUNK), f"encoding {count} scenes to {side} by {side}"):
        wanted = min(CHUNK, count - first)
        path = home / f"{side}-{first}-{wanted}.safetensors"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({"latents": encode(vae, draw_scenes(first, wanted, 8 * side)).half()}, path)
        parts.append(load_file(path)["latents"])
    return torch.cat(parts)
