"""What a client of latent streams imports. Needs no torch."""

from codec_client.maps import fetch_map

__all__ = ["fetch_map"]
