"""The domain: requests, plans, latents, the seven pipelines, maps, engines. Knows no protocol."""

from importlib.metadata import version

SERVER_VERSION = version("codec-diffusers")
CODEC_VERSION = "0.3"
"""Version of the Codec protocol that streams follow."""
