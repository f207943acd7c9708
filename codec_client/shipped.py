"""What ships with the project, so that its latents are decoded without a server and without a download."""

from pathlib import Path

DECODERS: dict[str, Path] = {}
"""Directories of shipped models, by what their maps' decoder.weights_url says."""

MAPS: dict[str, Path] = {}
"""Folders of shipped latent-space map bundles, by the id of the latent space."""
