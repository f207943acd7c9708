"""Quantization and packing in torch, on the device of the tensor. Only the encoded bytes are copied to the host.

In all functions, `values` is a contiguous tensor [channels, n] of float16 or float32. `scales` is a float16 tensor
[channels] on the same device, and `codes` is an int8 tensor [channels, n]. For every finite input, the encoded bytes
equal the encoded bytes of the module numpy_math.
"""

import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codec_wire.errors import InvalidLatents
from codec_wire.pipelines.numpy_math import NO_FINITE_SCALE, NOT_FINITE

_TORCH = {np.dtype("<f2"): torch.float16, np.dtype("<f4"): torch.float32}


def cast(latent: Tensor, dtype: np.dtype[np.float16] | np.dtype[np.float32]) -> Tensor:
    """Return `latent`, which has any float dtype, as a contiguous tensor with the dtype `dtype`."""
    return to_dtype(latent, dtype).contiguous()


def to_dtype(latent: Tensor, dtype: np.dtype[np.float16] | np.dtype[np.float32]) -> Tensor:
    """Return `latent` as a tensor of the same shape with the dtype `dtype`, without its gradient."""
    return latent.detach().to(_TORCH[dtype])


def channel_scales(values: Tensor) -> Tensor:
    """Return the scale of each channel as a float16 tensor [channels].

    The scale of a channel is the largest absolute value in the channel.

    Raises InvalidLatents if a scale is not finite in fp16.
    """
    scales = values.abs().amax(dim=1).to(torch.float16)
    if not bool(torch.isfinite(scales).all()):  # amax propagates NaN
        raise InvalidLatents(NO_FINITE_SCALE)
    return scales


def raw_bytes(values: Tensor) -> bytes:
    """Return finite values as little-endian bytes in C order. Raises InvalidLatents if `values` contains NaN or Inf."""
    require_finite(values)
    return to_bytes(values)


def require_finite(values: Tensor) -> None:
    """Raise InvalidLatents if `values` contains NaN or Inf."""
    if not bool(torch.isfinite(values).all()):
        raise InvalidLatents(NOT_FINITE)


def scaling(scales: Tensor, _dtype: np.dtype[Any], _max_code: int) -> Tensor:
    """Return the divisors that the function `quantize` uses, as a float32 tensor [channels, 1].

    For a scale of 0, the divisor is infinity. An infinite divisor makes all codes of a channel 0. The divisors remain a
    tensor on the device. If the divisor were a Python number, torch might multiply by the reciprocal of the number
    instead. A multiplication by the reciprocal rounds differently than the division.
    """
    wide = scales.to(torch.float32)
    return torch.where(wide == 0, torch.inf, wide).unsqueeze(1)


def static_scaling(scales: NDArray[np.float16], values: Tensor, max_code: int) -> Tensor:
    """Return static scales in the form that the function `quantize` needs, on the device of `values`."""
    return scaling(torch.from_numpy(scales.copy()).to(values.device), scales.dtype, max_code)


def quantize(values: Tensor, scaling: Tensor, max_code: int, *, saturate: bool) -> Tensor:
    """Return the codes of finite `values`. See numpy_math.quantize."""
    ratio = (values.to(torch.float32) / scaling * float(max_code)).round_()
    return (ratio.clamp_(-max_code, max_code) if saturate else ratio).to(torch.int8)


def key_codes(codes: Tensor, max_code: int) -> tuple[Tensor, int]:
    """Return the codes of a keyframe in the form that `residual` needs. `max_code` is the largest code, Q."""
    return codes, max_code


def residual(codes: Tensor, key: tuple[Tensor, int]) -> Tensor:
    """Return the differences between `codes` and the codes of the keyframe `key`, limited to the range from -Q to Q.

    Q is the largest code.
    """
    key_codes, max_code = key
    return (codes.to(torch.int16) - key_codes).clamp_(-max_code, max_code).to(torch.int8)


def pack(codes: Tensor, bits: int) -> bytes:
    """Return the codes as bytes. See numpy_math.pack."""
    flat = codes.reshape(-1)
    if bits == 8:
        return to_host(flat).tobytes()
    if flat.numel() % 2:
        flat = torch.nn.functional.pad(flat, (0, 1))
    low, high = (flat.view(torch.uint8).reshape(-1, 2) & 0x0F).unbind(1)
    return to_host(low | high << 4).tobytes()


def to_bytes(values: Tensor) -> bytes:
    """Return values or scales as little-endian bytes in C order."""
    array = to_host(values)
    return (array if sys.byteorder == "little" else array.byteswap()).tobytes()


def to_tensor(latents: NDArray[np.float16] | NDArray[np.float32]) -> Tensor:
    """Return a copy of decoded latents as a writable tensor on the CPU."""
    return torch.from_numpy(latents.astype(latents.dtype.newbyteorder("=")))


def to_host(tensor: Tensor) -> NDArray[Any]:
    """Return `tensor` as a NumPy array.

    A tensor on a GPU is copied directly to pinned memory, without a second copy.
    """
    if tensor.device.type == "cuda":
        tensor = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor)
    array: NDArray[Any] = tensor.cpu().numpy()
    return array
