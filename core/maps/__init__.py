"""Latent-space maps: what a client must know of a latent space, addressed by the sha256 of its bytes."""

from core.maps.bundle import LatentMapBundle
from core.maps.document import LatentMap, MapPipeline

__all__ = ["LatentMap", "LatentMapBundle", "MapPipeline"]
