"""Finds the map bundle of a latent space: below the models directory, or among those that ship with the project."""

from pathlib import Path

from codec_pixels.known_models import EMBEDDED_MODELS_DIR
from codec_wire.errors import InvalidMap
from codec_wire.maps.bundle import MAP_FILE, LatentMapBundle
from core.model import ModelInfo

FOLDER = "latent-spaces"


def bundle_folder(models_dir: Path, latent_space: str) -> Path:
    """Return where the bundle of `latent_space` lies below the models directory."""
    return models_dir / FOLDER / latent_space


def bundle_place(models_dir: Path, latent_space: str) -> Path | None:
    """Return the folder of the bundle of `latent_space`: one below `models_dir` before one that ships with the project.

    None where there is none, and for an id that would lead out of the directory.
    """
    if ".." in latent_space or latent_space.startswith("/"):
        return None
    folders = [bundle_folder(place, latent_space) for place in (models_dir, EMBEDDED_MODELS_DIR)]
    return next((folder for folder in folders if (folder / MAP_FILE).is_file()), None)


def bundle_places(models_dir: Path) -> list[Path]:
    """Return the folders of every bundle below `models_dir`, and of those that ship with the project."""
    places = (models_dir, EMBEDDED_MODELS_DIR)
    return [path.parent for place in places for path in sorted((place / FOLDER).glob(f"**/{MAP_FILE}"))]


def find_bundle(models_dir: Path, model: ModelInfo, vae_scale_factor: float) -> LatentMapBundle | None:
    """Return the bundle for `model`'s latent space, None where there is none.

    Raises InvalidMap when there is one that is broken or was made for other latents than the model's.
    """
    folder = bundle_place(models_dir, model.latent_space)
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
