"""The roles of a server. This module imports no other module, so that `serve --help` is fast."""

from enum import StrEnum


class Role(StrEnum):
    """Role of a server. The role determines what the server does with its models."""

    ALL = "all"
    DECODER = "decoder"
    """The server decodes and encodes latents. Only the VAE is loaded, not the denoiser and the text encoders."""
    GENERATOR = "generator"
    """The server generates latents. All components except the VAE are loaded."""
