"""The seven pipelines, which convert between latent values and the bytes of a frame.

`table` lists them, `numpy_math` and `torch_math` quantize and pack, and `inverse` unpacks and dequantizes.
"""

from codec_wire.pipelines.table import PIPELINES, Pipeline, Scales

__all__ = ["PIPELINES", "Pipeline", "Scales"]
