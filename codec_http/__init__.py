"""The HTTP protocol: an aiohttp facade that carries latent frames in the Codec's own wire."""
