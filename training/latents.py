"""Latents of rendered scenes, encoded once and stored on disk for training the denoiser."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from rich.progress import track
from safetensors.torch import load_file, save_file

from training.finish_vae import encode
from training.images import renderer_fingerprint, variation_fingerprint
from training.scenes.labels import sample_scene, sample_varied_scene
from training.scenes.render import render

CHUNK = 500  # scenes per file


def encoder_fingerprint(vae: AutoencoderKL) -> str:
    """Return a short hash of the encoder weights and scaling factor; the decoder does not affect it."""
    digest = hashlib.sha256(str(vae.config.scaling_factor).encode())
    for half in (vae.encoder, vae.quant_conv):
        for weight in half.state_dict().values():
            digest.update(weight.cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


def scene_latents(folder: Path, vae: AutoencoderKL, count: int, side: int, *, varied: bool = False) -> torch.Tensor:
    """Return the scaled latents of scenes 0 to count - 1, float16 [count, 4, side, side].

    The scenes are those of `sample_varied_scene` if `varied` is true, otherwise those of `sample_scene`. Files are
    stored per renderer and encoder, so latents of another renderer or encoder are never reused.
    """
    sample = sample_varied_scene if varied else sample_scene
    renderer = f"varied-{variation_fingerprint()}" if varied else renderer_fingerprint()
    cache = folder / f"latents-{renderer}-{encoder_fingerprint(vae)}"
    parts = []
    for first in track(range(0, count, CHUNK), f"encoding {count} scenes to {side}x{side} latents"):
        wanted = min(CHUNK, count - first)
        path = cache / f"{side}-{first}-{wanted}.safetensors"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            scenes = [sample(first + index) for index in range(wanted)]
            images = np.stack([render(scene, 8 * side, 8 * side) for scene in scenes])
            save_file({"latents": encode(vae, images).half()}, path)
        parts.append(load_file(path)["latents"])
    return torch.cat(parts)
