"""What a server does. Without other imports, so that `serve --help` is fast."""

from enum import StrEnum


class Role(StrEnum):
    """What a server does with its models."""

    ALL = "all"
    DECODER = "decoder"
    """Decodes and encodes latents: the VAE is loaded, the denoiser and the text encoders are not."""
    GENERATOR = "generator"
    """Generates latents: everything but the VAE is loaded."""
