"""Latent-space maps.

A map is an immutable description of a latent space. The sha256 hash of the map's bytes identifies the map.
"""

from codec_wire.maps.bundle import LatentMapBundle
from codec_wire.maps.document import LatentMap, MapPipeline
from codec_wire.maps.pin import parse_map_pin

__all__ = ["LatentMap", "LatentMapBundle", "MapPipeline", "parse_map_pin"]
