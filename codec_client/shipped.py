"""What ships with the project, so that its latents are decoded without a server and without a download."""

from pathlib import Path

from core import embedded
from core.maps.store import bundle_folder

DECODERS: dict[str, Path] = dict.fromkeys((embedded.NAME, embedded.LATENT_SPACE), embedded.MODEL_FOLDER)
"""Directories of shipped models, by what their maps' decoder.weights_url says, or else by their latent space."""

MAPS: dict[str, Path] = {embedded.LATENT_SPACE: bundle_folder(embedded.FOLDER, embedded.LATENT_SPACE)}
"""Folders of shipped latent-space map bundles, by the id of the latent space."""
