"""The seven encoding pipelines. An encoding pipeline converts between latent values and the bytes of a frame.

The module `table` lists the encoding pipelines. The modules `numpy_math` and `torch_math` quantize latents to codes and
pack the codes. The module `inverse` unpacks and dequantizes the codes. If the extra `kernel` is installed, the module
`compiled_math` can do the work of `numpy_math` and `inverse`. The module `host` selects one of them.
"""

from codec_wire.pipelines.table import PIPELINES, Pipeline, Scales

__all__ = ["PIPELINES", "Pipeline", "Scales"]
