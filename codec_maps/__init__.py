"""Creation of latent-space maps.

Samples of latents are generated with the served model (`corpus`). The static scales of int8 and int4 (`scales`) and the
zstd dictionaries (`dictionaries`) are computed from the samples. A dictionary is included only if it makes held-out
bodies smaller (`bodies`, `entropy`). `build` computes the scales and the dictionaries, `model_map` writes the document,
and `annotations` adds quality thresholds or a canonical image to a finished map.
"""

from codec_maps.bodies import BodySizes
from codec_maps.build import BuiltMap, DictionaryTrial, build_map

__all__ = ["BodySizes", "BuiltMap", "DictionaryTrial", "build_map"]
