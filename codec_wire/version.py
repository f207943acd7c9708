"""Versions of this project and of the Codec protocol."""

from importlib.metadata import version

SERVER_VERSION = version("codec-diffusers")
CODEC_VERSION = "0.3"
"""Version of the Codec protocol."""
