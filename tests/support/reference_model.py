"""The model that the gate runs on in the tests: the embedded one, chosen here and nowhere else.

Its map, with the bounds that the gate holds it to, is the one that ships beside it.
"""

from pathlib import Path

import codec_scenes
from codec_wire.maps import LatentMapBundle
from core.map_store import bundle_folder
from core.settings import Settings, read_settings

LATENT_SPACE = codec_scenes.LATENT_SPACE
FLAGS = ("--threads", "1")
"""What a command line needs beside the model, which is the default: the bounds were measured with one thread."""
SUITE = "latent-fixtures-1"


def settings_for(models_dir: Path, **others: object) -> Settings:
    """Return settings that name the model; `others` are further ones, by their names."""
    return read_settings({"threads": 1, "models_dir": models_dir, **others})


def shipped_bundle() -> LatentMapBundle:
    """Return the model's map."""
    return LatentMapBundle.from_folder(bundle_folder(codec_scenes.FOLDER, LATENT_SPACE))


def write_map(models_dir: Path, bundle: LatentMapBundle) -> None:
    """Write a map to where commands look for it below `models_dir`, before the one that ships with the project."""
    bundle.write(bundle_folder(models_dir, LATENT_SPACE))
