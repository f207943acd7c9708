"""Latents of moving scenes, encoded when they are first used and stored on disk, and random frames of them."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from training.finish_vae import encode
from training.images import variation_fingerprint
from training.latents import encoder_fingerprint
from training.scenes.labels import Scene
from training.scenes.render import render_motion

FRAMES = 24  # frames per clip


def clip_latents(folder: Path, vae: AutoencoderKL, scene: Scene, side: int) -> torch.Tensor:
    """Return the scaled latents of a moving scene, float16 [FRAMES, 4, side, side], encoding them if needed."""
    cache = folder / f"clips-{variation_fingerprint()}-{encoder_fingerprint(vae)}"
    path = cache / f"{side}-{scene.seed}-{scene.motion}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        save_file({"latents": encode(vae, render_motion(scene, FRAMES, 8 * side, 8 * side)).half()}, partial)
        partial.replace(path)
    latents: torch.Tensor = load_file(path)["latents"]
    return latents
