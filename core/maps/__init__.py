"""Latent-space maps: what a client must know of a latent space, addressed by the sha256 of its bytes."""

from core.maps.bundle import LatentMapBundle
from core.maps.document import LatentMap, MapPipeline
from core.maps.pin import pinned_hash

__all__ = ["LatentMap", "LatentMapBundle", "MapPipeline", "pinned_hash"]
