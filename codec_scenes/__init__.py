"""Data of the embedded model, a small trained latent diffusion model that needs neither a network nor a GPU.

The folder `scenes/` contains a pipeline in diffusers layout with a motion adapter. The folder `latent-spaces/` contains
the latent-space map of the model. docs/embedded-model.md describes the model and its training.
"""

from pathlib import Path

NAME = "codec-diffusers/scenes"
ALIAS = "embedded"
LATENT_SPACE = "codec-diffusers/scenes-vae"
FOLDER = Path(__file__).parent
"""Directory with the layout of a models directory (CODEC_MODELS_DIR)."""
MODEL_FOLDER = FOLDER / "scenes"
