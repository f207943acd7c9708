"""A tiny Flux with random weights and its latent-space map, with which the step caches can be measured."""

from pathlib import Path
from typing import Any

import torch

from codec_maps.model_map import map_from_model
from codec_pixels.device import Device
from core.diffusers_engine.loader import load
from core.diffusers_engine.sources import ModelSource
from core.map_store import bundle_folder
from tests.support.families.images import build_flux

BLOCKS = 5
"""Number of blocks of each kind. cache-dit always computes the first 8 blocks."""
MODULATION = 0.3
"""Factor for the weights with which the time changes the blocks.

With the random weights themselves, the blocks change more between two steps than those of trained models, so that
caches with a threshold would never skip a block.
"""


def build_smooth_flux() -> Any:
    """Return a tiny Flux pipeline whose blocks change little between two steps."""
    pipeline = build_flux(BLOCKS)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, weight in pipeline.transformer.named_parameters():
            if "norm" in name and name.endswith("linear.weight"):
                weight.mul_(MODULATION)
            elif "norm" in name and name.endswith("linear.bias"):
                weight.normal_(std=0.5)
    return pipeline


def write_tiny_flux(models_dir: Path, name: str) -> None:
    """Write the pipeline to the directory `name` in `models_dir`, and the map of its latent space, which is `name`."""
    build_smooth_flux().save_pretrained(models_dir / name)
    source = ModelSource(name, None, models_dir, latent_space=name)
    model = load(source, Device.from_settings("cpu", "auto", 1))
    bundle = map_from_model(model.info, model.vae_scale_factor, model.vae_class)
    bundle.write(bundle_folder(models_dir, name))
