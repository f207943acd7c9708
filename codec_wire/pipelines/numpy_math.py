"""The pipelines' arithmetic in NumPy, on the whole frame at once.

Everywhere here `values` is a C-contiguous [channels, n] array of the latent-space map's dtype (little-endian fp16 or
fp32), `scales` is fp16 [channels], and `codes` is int8 [channels, n] within [-Q, Q].

The formula is WIRE, section 2: q = clip(rint((x / s) * Q), -Q, Q) in float32, dividing first, half to even.
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
"""Where sign, exponent and mantissa of an fp16 lie once it is shifted into an fp32's bits."""
_WIDENING = np.float32(2.0**-112)
_INFINITY = np.float32(np.inf)
_SAFE_SCALE = 0x2400
"""Bits of 2^-6. Against that scale or a larger one, an fp16 subnormal is less than half a step of 127 and gives 0."""


def cast(latent: NDArray[np.generic], dtype: np.dtype[np.float16] | np.dtype[np.float32]) -> Values:
    """Return `latent` ([channels, ...], any float dtype) as [channels, n] values of `dtype`.

    What does not fit becomes infinite, as the cast of the reference gives it; the checks below then refuse it.
    """
    fitting: Any = latent
    if latent.dtype != dtype or not latent.flags.c_contiguous:
        with np.errstate(over="ignore"):
            fitting = np.ascontiguousarray(latent, dtype=dtype)
    values: Values = fitting.reshape(latent.shape[0], -1)
    return values


def channel_scales(values: Values) -> NDArray[np.float16]:
    """Return max |x| per channel as fp16. Raises InvalidLatents when one is not finite in fp16."""
    if values.dtype == np.float16:
        # Magnitudes of fp16 order like their bits, and Inf and NaN come last: one look finds both.
        bits = np.bitwise_and(values.view(np.uint16), _FP16_MAGNITUDE).max(axis=1)
        scales: NDArray[np.float16] = bits.view(np.float16)
        finite = max(bits.tolist()) < _FP16_INFINITY  # of a few numbers, Python's own is the faster
    else:
        with np.errstate(over="ignore"):
            scales = np.abs(values).max(axis=1).astype(np.float16)
        finite = bool(np.isfinite(scales).all())
    if not finite:
        raise InvalidLatents("the latents hold NaN, Inf, or a value over what an fp16 scale can hold")
    return scales


def require_finite(values: Values) -> None:
    """Raise InvalidLatents when `values` hold NaN or Inf."""
    if not all_finite(values):
        raise InvalidLatents("the latents hold NaN or Inf")


def all_finite(values: Values) -> bool:
    """Return whether none of `values` (of any shape) is NaN or Inf."""
    if values.dtype != np.float16:
        return bool(np.isfinite(values).all())
    # Read as signed, bits of a positive number order like it and those of a negative one are below zero; read as
    # unsigned, those of the most negative one are the largest. Two passes that write nothing.
    return bool(values.view(np.int16).max() < _FP16_INFINITY and values.view(np.uint16).max() < _FP16_MINUS_INFINITY)


class Divisors(NamedTuple):
    """What `quantize` divides by: fp32 [channels, 1], and whether it and the values are taken times 2^-112."""

    column: NDArray[np.float32]
    widened: bool


def divisors(scales: NDArray[np.float16], dtype: np.dtype[Any]) -> Divisors:
    """Return what `quantize` divides values of `dtype` by; a scale of 0 becomes a divisor that gives zeros."""
    # Beside a smaller scale (or 0), fp16 subnormals count, and those may be flushed to 0 once they are widened.
    widened = dtype == np.float16 and min(scales.view(np.uint16).tolist()) >= _SAFE_SCALE
    column = scales.astype(np.float32)
    if widened:
        column *= _WIDENING
    else:
        column[scales == 0] = _INFINITY
    return Divisors(column[:, np.newaxis], widened)


def quantize(values: Values, divisors: Divisors, max_code: int, *, saturate: bool) -> NDArray[np.int8]:
    """Return the codes of finite `values` against the scales that gave `divisors`.

    `saturate` is False only where no |x| is over its scale, and so no code over Q: fp16 values and their own scales.
    """
    ratio = _widened(values) if divisors.widened else values.astype(np.float32)
    if not saturate:
        ratio /= divisors.column
        ratio *= np.float32(max_code)
        return np.rint(ratio, out=ratio).astype(np.int8)
    with np.errstate(over="ignore"):
        ratio /= divisors.column
        ratio *= np.float32(max_code)
    np.rint(ratio, out=ratio)
    return np.clip(ratio, -max_code, max_code, out=ratio).astype(np.int8)


def _widened(halves: Values) -> NDArray[np.float32]:
    """Return finite fp16 numbers as fp32, each times 2^-112, exactly.

    The quotient of two numbers widened so is the quotient of the numbers themselves, bit for bit, and shifting bits
    costs a quarter of what NumPy's own conversion does.
    """
    bits = halves.view(np.int16).astype(np.int32)
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, _FP16_IN_FP32, out=bits)
    return bits.view(np.float32)


def residual(codes: NDArray[np.int8], key: NDArray[np.int8], max_code: int) -> NDArray[np.int8]:
    """Return clip(codes - key, -Q, Q), what a delta pipeline sends between keyframes."""
    difference = np.subtract(codes, key, dtype=np.int16)
    return np.clip(difference, -max_code, max_code, out=difference).astype(np.int8)


def pack(codes: NDArray[np.int8], bits: int) -> bytes:
    """Return the codes as bytes: one each for 8 bits; for 4 bits two a byte, low nibble first, odd tail padded by 0."""
    flat = codes.reshape(-1)
    if bits == 8:
        return flat.tobytes()
    if flat.size % 2:
        flat = np.append(flat, np.int8(0))
    pairs = flat.view("<u2")
    return ((pairs & 0x0F) | (pairs >> 4 & 0xF0)).astype(np.uint8).tobytes()


def to_bytes(values: Values | NDArray[np.float16]) -> bytes:
    """Return little-endian bytes in C order, of values or of scales."""
    return (values if sys.byteorder == "little" else values.byteswap()).tobytes()
