"""Makes latent-space map bundles of latents that a model really made: static scales, dictionaries, what they save."""

from codec_maps.body_sizes import BodySizes
from codec_maps.build import BuiltMap, DictionaryTrial, build_map

__all__ = ["BodySizes", "BuiltMap", "DictionaryTrial", "build_map"]
