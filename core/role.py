"""The roles of a server. This module imports no other module, so that `serve --help` is fast."""

from enum import StrEnum


class Role(StrEnum):
    """What a server does with its models."""

    ALL = "all"
    DECODER = "decoder"
    """Decodes and encodes latents. Only the VAE is loaded, not the denoiser and the text encoders."""
    GENERATOR = "generator"
    """Generates latents. All components except the VAE are loaded."""
