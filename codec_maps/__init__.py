"""Creation of latent-space maps.

The module `corpus` generates samples of latents with the served model. The module `scales` computes the static scales
of int8 and int4 from the samples. The module `dictionaries` trains the zstd dictionaries on the samples. A zstd
dictionary is included in the map only if the dictionary makes held-out bodies smaller. The modules `bodies` and
`entropy` measure the sizes of bodies. The module `build` runs the computation of the scales and the dictionaries. The
module `model_map` creates the map document. The module `annotations` adds quality thresholds, a canonical image or the
hash of the decoder's weights to a finished map.
"""

from codec_maps.bodies import BodySizes
from codec_maps.build import BuiltMap, DictionaryTrial, build_map

__all__ = ["BodySizes", "BuiltMap", "DictionaryTrial", "build_map"]
