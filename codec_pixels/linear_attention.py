"""Replacement of diffusers' linear attention that returns the same values after an export to ONNX."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

LinearAttention = Callable[[Tensor, Tensor, Tensor], Tensor]


@contextmanager
def attention_with_clamped_divisors(module: torch.nn.Module) -> Iterator[None]:
    """Replace the linear attention of AutoencoderDC in `module` during the `with` block.

    diffusers adds 1e-15 to the divisors of the attention. The optimizers of ONNX models remove additions of numbers
    below 1e-8. Without the addition, a divisor is 0 where the ReLU of all keys or the ReLU of the query is 0. A
    division by 0 would make the exported decoder return NaN. Divisors are not negative, so a minimum of 1e-15 for
    divisors has the same effect as an addition of 1e-15. The optimizers of ONNX models do not remove a minimum.
    """
    from diffusers.models.attention_processor import SanaMultiscaleLinearAttention  # noqa: PLC0415 - takes seconds

    layers = [layer for layer in module.modules() if isinstance(layer, SanaMultiscaleLinearAttention)]
    for layer in layers:
        layer.apply_linear_attention = _clamped(layer.eps)
    try:
        yield
    finally:
        for layer in layers:
            del layer.apply_linear_attention


def _clamped(minimum: float) -> LinearAttention:
    """Return SanaMultiscaleLinearAttention.apply_linear_attention with divisors of at least `minimum`."""

    def apply_linear_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        ones = torch.ones_like(value[:, :, :1])
        products = torch.cat([value, ones], dim=2) @ key.transpose(-1, -2) @ query
        return products[:, :, :-1] / products[:, :, -1:].clamp(min=minimum)

    return apply_linear_attention
