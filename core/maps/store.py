"""Finds the map bundle of a latent space: below the models directory, or among those that ship with the project."""

from pathlib import Path

from core import embedded
from core.errors import InvalidMap
from core.maps.bundle import MAP_FILE, LatentMapBundle
from core.model import ModelInfo

FOLDER = "latent-spaces"


def bundle_folder(models_dir: Path, latent_space: str) -> Path:
    """Return where the bundle of `latent_space` lies below the models directory."""
    return models_dir / FOLDER / latent_space


def find_bundle(models_dir: Path, model: ModelInfo, vae_scale_factor: float) -> LatentMapBundle | None:
    """Return the bundle for `model`'s latent space, None where there is none.

    One below `models_dir` comes before one that ships with the project. Raises InvalidMap when there is one that is
    broken or was made for other latents than the model's.
    """
    folders = [bundle_folder(place, model.latent_space) for place in (models_dir, embedded.FOLDER)]
    folder = next((folder for folder in folders if (folder / MAP_FILE).is_file()), None)
    if folder is None:
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
