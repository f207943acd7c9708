"""The model that ships with the project: a small trained latent diffusion model, ready without network or GPU.

Beside this file: `scenes/`, a pipeline in diffusers layout with a motion adapter, and `latent-spaces/`, its map.
What it is and how it was trained: docs/embedded-model.md.
"""

from pathlib import Path

NAME = "codec-diffusers/scenes"
ALIAS = "embedded"
LATENT_SPACE = "codec-diffusers/scenes-vae"
FOLDER = Path(__file__).parent
"""A models directory: what is looked for below CODEC_MODELS_DIR is looked for here too."""
MODEL_FOLDER = FOLDER / "scenes"


def is_embedded(name: str | None) -> bool:
    """Return whether a model's name means the one that ships with the project."""
    return name in (NAME, ALIAS)
