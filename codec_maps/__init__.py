"""Makes latent-space map bundles of latents that a model really made: static scales, dictionaries, what they save."""

from codec_maps.building import BuiltMap, DictionaryTrial, build_map
from codec_maps.measuring import BodySizes

__all__ = ["BodySizes", "BuiltMap", "DictionaryTrial", "build_map"]
