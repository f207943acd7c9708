"""The model for tests of the gate: the embedded model, with its published map and quality thresholds."""

from pathlib import Path

import codec_scenes
from codec_golden.build import FixtureBuilder
from codec_golden.fixtures import read_suite
from codec_golden.reference import ReferenceModel
from codec_wire.maps import LatentMapBundle
from core.map_store import bundle_folder
from core.settings import Settings, read_settings

LATENT_SPACE = codec_scenes.LATENT_SPACE
FLAGS = ("--threads", "1")
"""Flags for commands of the gate: its thresholds were measured with one CPU thread."""
SUITE = "latent-fixtures-1"


def settings_for(models_dir: Path, **fields: object) -> Settings:
    """Return settings for the embedded model; `fields` are further settings by name."""
    return read_settings({"threads": 1, "models_dir": models_dir, **fields})


def shipped_bundle() -> LatentMapBundle:
    """Return the map in the codec_scenes package."""
    return LatentMapBundle.from_folder(bundle_folder(codec_scenes.FOLDER, LATENT_SPACE))


def write_map(models_dir: Path, bundle: LatentMapBundle) -> None:
    """Write a map into `models_dir`, where commands prefer it to the map in the codec_scenes package."""
    bundle.write(bundle_folder(models_dir, LATENT_SPACE))


def write_goldens(folder: Path, model: ReferenceModel, *names: str, captures: Path | None = None) -> Path:
    """Write the golden fixtures `names` to `folder` and return it. See FixtureBuilder for `captures`."""
    builder, fixtures = FixtureBuilder(model, SUITE, folder, captures), read_suite(None).fixtures
    for name in names:
        builder.build(name, fixtures[name], lambda _done, _total: None).write()
    return folder
