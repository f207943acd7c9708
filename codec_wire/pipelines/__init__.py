"""The seven encoding pipelines. An encoding pipeline converts between latent values and the bytes of a frame.

The module `table` lists the encoding pipelines. The modules `numpy_math` and `torch_math` quantize latents to codes and
pack the codes. The module `inverse` unpacks and dequantizes the codes.
"""

from codec_wire.pipelines.table import PIPELINES, Pipeline, Scales

__all__ = ["PIPELINES", "Pipeline", "Scales"]
