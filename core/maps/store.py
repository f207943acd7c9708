"""Finds the map bundle of a latent space on disk."""

from pathlib import Path

from core.errors import InvalidMap
from core.maps.bundle import MAP_FILE, LatentMapBundle
from core.model import ModelInfo

FOLDER = "latent-spaces"


def bundle_folder(models_dir: Path, latent_space: str) -> Path:
    """Return where the bundle of `latent_space` lies below the models directory."""
    return models_dir / FOLDER / latent_space


def find_bundle(models_dir: Path, model: ModelInfo, vae_scale_factor: float) -> LatentMapBundle | None:
    """Return the bundle for `model`'s latent space, None where there is none.

    Raises InvalidMap when there is one that is broken or was made for other latents than the model's.
    """
    folder = bundle_folder(models_dir, model.latent_space)
    if not (folder / MAP_FILE).is_file():
        return None
    bundle = LatentMapBundle.from_folder(folder)
    found = bundle.latent_map
    for what, expected, came in (
        ("id", model.latent_space, found.id),
        ("number of channels", model.latent_channels, found.shape[0]),
        ("vae_scale_factor", vae_scale_factor, found.vae_scale_factor or vae_scale_factor),
    ):
        if came != expected:
            raise InvalidMap(f"{folder}: the map's {what} is {came}, {model.name} has {expected}")
    return bundle
