"""The seven encoding pipelines. An encoding pipeline converts between latent values and the bytes of a frame.

The module `table` lists the encoding pipelines. `numpy_math` and `torch_math` quantize latents and pack the codes.
`inverse` unpacks the codes and dequantizes them.
"""

from codec_wire.pipelines.table import PIPELINES, Pipeline, Scales

__all__ = ["PIPELINES", "Pipeline", "Scales"]
