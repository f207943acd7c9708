"""The embedded model's data: a small trained latent diffusion model that needs no network and no GPU.

`scenes/` is a pipeline in diffusers layout with a motion adapter; `latent-spaces/` contains its latent-space map.
docs/embedded-model.md describes the model and its training.
"""

from pathlib import Path

NAME = "codec-diffusers/scenes"
ALIAS = "embedded"
LATENT_SPACE = "codec-diffusers/scenes-vae"
FOLDER = Path(__file__).parent
"""Directory with the layout of a models directory (CODEC_MODELS_DIR)."""
MODEL_FOLDER = FOLDER / "scenes"
