"""What ships with the project, so that its latents are decoded without a server and without a download."""

from pathlib import Path

from core import embedded

DECODERS: dict[str, Path] = dict.fromkeys((embedded.NAME, embedded.LATENT_SPACE), embedded.MODEL_FOLDER)
"""Directories of shipped models, by what their maps' decoder.weights_url says, or else by their latent space."""
