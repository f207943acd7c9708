"""Quantization and packing in NumPy, one frame per call.

In all functions `values` is a C-contiguous array [channels, n] in the dtype of the latent-space map (little-endian
fp16 or fp32), `scales` is fp16 [channels], and `codes` is int8 [channels, n] in [-Q, Q].

Codes are q = clip(rint((x / s) * Q), -Q, Q), computed in float32 in this order and rounded half to even. This formula
and its order of operations are part of the Codec protocol: x * (Q / s) gives other bytes.
"""

import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codec_wire.errors import InvalidLatents

Values = NDArray[np.float16] | NDArray[np.float32]

_FP16_MAGNITUDE = np.uint16(0x7FFF)
_FP16_INFINITY = 0x7C00
_FP16_MINUS_INFINITY = 0xFC00
_FP16_IN_FP32 = np.uint32(0x8FFFE000).view(np.int32)
"""Mask of the sign, exponent and mantissa of an fp16 number after its bits are shifted to their places in fp32."""
_WIDENING_FACTOR = np.float32(2.0**-112)
"""Factor between an fp16 number and the fp32 number with its shifted bits: the exponent biases are 15 and 127."""
_INFINITY = np.float32(np.inf)
_SAFE_SCALE = 0x2400
"""Bits of the fp16 number 2^-6. With this scale or a larger one, every fp16 subnormal has the code 0."""


def cast(latent: NDArray[np.generic], dtype: np.dtype[np.float16] | np.dtype[np.float32]) -> Values:
    """Return `latent` ([channels, ...], any float dtype) as [channels, n] values of `dtype`.

    Values out of range become infinite, as in the reference encoder; the checks below then raise.
    """
    converted: Any = latent
    if latent.dtype != dtype or not latent.flags.c_contiguous:
        with np.errstate(over="ignore"):
            converted = np.ascontiguousarray(latent, dtype=dtype)
    values: Values = converted.reshape(latent.shape[0], -1)
    return values


def channel_scales(values: Values) -> NDArray[np.float16]:
    """Return max |x| per channel as fp16 [channels]. Raises InvalidLatents if one of them is not finite in fp16."""
    if values.dtype == np.float16:
        # Magnitudes of fp16 are ordered like their bits, and Inf and NaN are the largest: one pass finds all of them.
        bits = np.bitwise_and(values.view(np.uint16), _FP16_MAGNITUDE).max(axis=1)
        scales: NDArray[np.float16] = bits.view(np.float16)
        finite = max(bits.tolist()) < _FP16_INFINITY  # for a few numbers, max() is faster than NumPy
    else:
        with np.errstate(over="ignore"):
            scales = np.abs(values).max(axis=1).astype(np.float16)
        finite = bool(np.isfinite(scales).all())
    if not finite:
        raise InvalidLatents("the latents contain NaN, Inf or values that are too large for an fp16 scale")
    return scales


def require_finite(values: Values) -> None:
    """Raise InvalidLatents if `values` contain NaN or Inf."""
    if not all_finite(values):
        raise InvalidLatents("the latents contain NaN or Inf")


def all_finite(values: Values) -> bool:
    """Return whether `values` (of any shape) contain neither NaN nor Inf."""
    if values.dtype != np.float16:
        return bool(np.isfinite(values).all())
    # As signed integers, the bits of positive numbers are ordered like the numbers; as unsigned integers, those of the
    # most negative number are the largest. Two passes without a temporary array.
    return bool(values.view(np.int16).max() < _FP16_INFINITY and values.view(np.uint16).max() < _FP16_MINUS_INFINITY)


class Divisors(NamedTuple):
    """Divisors of `quantize`: fp32 [channels, 1], and whether they and the values are multiplied by 2^-112."""

    column: NDArray[np.float32]
    widened: bool


def divisors(scales: NDArray[np.float16], dtype: np.dtype[Any]) -> Divisors:
    """Return the divisors for values of `dtype`. A scale of 0 becomes infinity, so that its codes are 0."""
    # With a smaller scale, fp16 subnormals can have codes other than 0, but the CPU may flush them to 0 when widened.
    widened = dtype == np.float16 and min(scales.view(np.uint16).tolist()) >= _SAFE_SCALE
    column = scales.astype(np.float32)
    if widened:
        column *= _WIDENING_FACTOR
    else:
        column[scales == 0] = _INFINITY
    return Divisors(column[:, np.newaxis], widened)


def quantize(values: Values, divisors: Divisors, max_code: int, *, saturate: bool) -> NDArray[np.int8]:
    """Return the codes of finite `values` for the scales from which `divisors` were computed.

    Pass `saturate` False only if no |x| is larger than its scale, as for fp16 values and their own scales.
    """
    ratio = _widen(values) if divisors.widened else values.astype(np.float32)
    if not saturate:
        ratio /= divisors.column
        ratio *= np.float32(max_code)
        return np.rint(ratio, out=ratio).astype(np.int8)
    with np.errstate(over="ignore"):
        ratio /= divisors.column
        ratio *= np.float32(max_code)
    np.rint(ratio, out=ratio)
    return np.clip(ratio, -max_code, max_code, out=ratio).astype(np.int8)


def _widen(values: Values) -> NDArray[np.float32]:
    """Return finite fp16 numbers as fp32, multiplied exactly by 2^-112.

    The factor cancels in a quotient of two such numbers, bit for bit. Shifting the bits takes a quarter of the time of
    NumPy's conversion.
    """
    bits = values.view(np.int16).astype(np.int32)
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, _FP16_IN_FP32, out=bits)
    return bits.view(np.float32)


def residual(codes: NDArray[np.int8], key: NDArray[np.int8], max_code: int) -> NDArray[np.int8]:
    """Return clip(codes - key, -Q, Q), the residual to a keyframe."""
    difference = np.subtract(codes, key, dtype=np.int16)
    return np.clip(difference, -max_code, max_code, out=difference).astype(np.int8)


def pack(codes: NDArray[np.int8], bits: int) -> bytes:
    """Return the codes as bytes. Two 4-bit codes share a byte, the first in the low nibble; an odd number is padded."""
    flat = codes.reshape(-1)
    if bits == 8:
        return flat.tobytes()
    if flat.size % 2:
        flat = np.append(flat, np.int8(0))
    pairs = flat.view("<u2")
    return ((pairs & 0x0F) | (pairs >> 4 & 0xF0)).astype(np.uint8).tobytes()


def to_bytes(values: Values | NDArray[np.float16]) -> bytes:
    """Return values or scales as little-endian bytes in C order."""
    return (values if sys.byteorder == "little" else values.byteswap()).tobytes()
