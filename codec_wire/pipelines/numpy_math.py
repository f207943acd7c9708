"""Quantization and packing in NumPy, one frame per call.

In all functions, `values` is a C-contiguous array [channels, n] in the dtype of the latent-space map (little-endian
fp16 or fp32). `scales` is an fp16 array [channels]. `codes` is an int8 array [channels, n] with values in [-Q, Q],
where Q is the largest code.

The code of a value x with the scale s is q = clip(rint((x / s) * Q), -Q, Q). A code is computed in float32 by a
division, a multiplication, a rounding of halves to even, and clipping. The order of the operations is part of the Codec
protocol, because x * (Q / s) gives other bytes. The module `multipliers` replaces Q / s with numbers that give the same
bytes.
"""

import sys
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codec_wire.errors import InvalidLatents
from codec_wire.pipelines.multipliers import SMALLEST_SCALE_BITS, multipliers

NOT_FINITE = "the latents contain NaN or Inf"
NO_FINITE_SCALE = "the latents contain NaN, Inf or values that are too large for an fp16 scale"

Values = NDArray[np.float16] | NDArray[np.float32]

_FP16_MAGNITUDE = np.uint16(0x7FFF)
_FP16_INFINITY = 0x7C00
_FP16_MINUS_INFINITY = 0xFC00
_FP16_SIGN = np.uint16(0x8000)
_FP16_TO_FP32_SHIFT = np.int32(13)
_FP16_IN_FP32 = np.uint32(0x8FFFE000).view(np.int32)
"""Mask of the fp32 bits that can be set after the sign, exponent and mantissa of an fp16 number are shifted to fp32."""
_WIDENING_FACTOR = np.float32(2.0**-112)
"""Factor by which the value of a number changes if the bits of its fp16 form are shifted to the fp32 positions.

The factor is 2^(15 - 127), because the exponent bias is 15 in fp16 and 127 in fp32.
"""


def cast(latent: NDArray[np.generic], dtype: np.dtype[np.float16] | np.dtype[np.float32]) -> Values:
    """Return `latent`, which has any float dtype, as a C-contiguous and aligned array with the dtype `dtype`.

    A value that is too large for `dtype` becomes infinite, as in the reference encoder. The functions channel_scales
    and require_finite raise InvalidLatents for infinite values.
    """
    converted: Any = latent
    flags = latent.flags
    if latent.dtype != dtype or not (flags.c_contiguous and flags.aligned):
        with np.errstate(over="ignore"):
            converted = np.array(latent, dtype=dtype, order="C")
    values: Values = converted
    return values


def channel_scales(values: Values) -> NDArray[np.float16]:
    """Return the scale of each channel as an fp16 array [channels].

    The scale of a channel is the largest absolute value in the channel.

    Raises InvalidLatents if a scale is not finite in fp16.
    """
    if values.dtype == np.float16:
        # Magnitudes of fp16 are ordered like their bits, and Inf and NaN are the largest: one pass finds all of them.
        bits = np.maximum.reduce(np.bitwise_and(values.view(np.uint16), _FP16_MAGNITUDE), axis=1)
        scales: NDArray[np.float16] = bits.view(np.float16)
        finite = max(bits.tolist()) < _FP16_INFINITY  # for a few numbers, max() is faster than NumPy
    else:
        with np.errstate(over="ignore"):
            scales = np.abs(values).max(axis=1).astype(np.float16)
        finite = bool(np.isfinite(scales).all())
    if not finite:
        raise InvalidLatents(NO_FINITE_SCALE)
    return scales


def raw_bytes(values: Values) -> bytes:
    """Return finite values as little-endian bytes in C order. Raises InvalidLatents if `values` contains NaN or Inf."""
    require_finite(values)
    return to_bytes(values)


def require_finite(values: Values) -> None:
    """Raise InvalidLatents if `values` contains NaN or Inf."""
    if not all_finite(values):
        raise InvalidLatents(NOT_FINITE)


def all_finite(values: Values) -> bool:
    """Return whether all numbers in the array `values` are finite. `values` is C-contiguous and has any shape."""
    if values.dtype != np.float16:
        return bool(np.isfinite(values).all())
    # As signed integers, the bits of positive numbers are ordered like the numbers; as unsigned integers, those of the
    # most negative number are the largest. Two passes without a temporary array; argmax() is faster than max().
    flat = values.reshape(-1)
    signed, unsigned = flat.view(np.int16), flat.view(np.uint16)
    return signed.item(signed.argmax()) < _FP16_INFINITY and unsigned.item(unsigned.argmax()) < _FP16_MINUS_INFINITY


class Scaling:
    """Scales of one or more frames of a stream, in the form that `quantize` needs.

    `multipliers` is an fp32 array [channels, 1], or None if the values must be divided by the scales.
    """

    def __init__(self, scales: NDArray[np.float16], multipliers: NDArray[np.float32] | None) -> None:
        self.scales = scales
        self.multipliers = multipliers
        self._limits: NDArray[np.uint16] | None = None

    def limits(self, shape: tuple[int, ...]) -> NDArray[np.uint16]:
        """Return the limits to which values are clipped, as a uint16 array [2, channels, n].

        `shape` is the shape [channels, n] of the values.

        The result contains the bits of the fp16 scales and the bits of the negated fp16 scales. Each scale is repeated
        n times, because NumPy is several times slower with a broadcast operand.
        """
        limits = self._limits
        if limits is None or limits.shape[1:] != shape:
            bits = self.scales.view(np.uint16).repeat(shape[1]).reshape(shape)
            limits = np.empty((2, *shape), np.uint16)
            limits[0] = bits
            np.bitwise_or(bits, _FP16_SIGN, out=limits[1])
            self._limits = limits  # only when complete: other threads may share this object
        return limits


def scaling(scales: NDArray[np.float16], dtype: np.dtype[Any], max_code: int) -> Scaling:
    """Return `scales` in the form that the function `quantize` needs for values of the dtype `dtype`."""
    if dtype != np.float16:
        return Scaling(scales, None)
    column = multipliers(max_code).take(scales.view(np.uint16))
    return Scaling(scales, column[:, np.newaxis] if min(column.tolist()) > 0 else None)


def static_scaling(scales: NDArray[np.float16], values: Values, max_code: int) -> Scaling:
    """Return static scales in the form that the function `quantize` needs for frames like `values`.

    The result is cached, because streams with equal scales and frame shapes can share the result. The shape is part of
    the key, because a Scaling keeps its limits for one shape only.
    """
    return _shared_scaling(scales.tobytes(), values.shape, values.dtype, max_code)


@lru_cache(maxsize=8)
def _shared_scaling(data: bytes, _shape: tuple[int, ...], dtype: np.dtype[Any], max_code: int) -> Scaling:
    return scaling(np.frombuffer(data, "<f2"), dtype, max_code)


def quantize(values: Values, scaling: Scaling, max_code: int, *, saturate: bool) -> NDArray[np.int8]:
    """Return the codes of finite `values`.

    `saturate` may be False only if no absolute value in a channel exceeds the scale of the channel. For example,
    `saturate` may be False if the function channel_scales computed the scales from the same fp16 values.
    """
    if scaling.multipliers is None:
        return _quantize_by_division(values, scaling.scales, max_code, saturate=saturate)
    ratio = _widen(_clip(values.view(np.uint16), scaling.limits(values.shape)) if saturate else values)
    ratio *= scaling.multipliers
    return np.rint(ratio, out=ratio).astype(np.int8)


def _quantize_by_division(
    values: Values, scales: NDArray[np.float16], max_code: int, *, saturate: bool
) -> NDArray[np.int8]:
    """Return the codes of `values` for any scales and dtype. The codes of a channel whose scale is 0 are 0."""
    column = scales.astype(np.float32)
    # With a smaller scale, fp16 subnormals can have codes other than 0, but the CPU may flush them to 0 when widened.
    if values.dtype == np.float16 and min(scales.view(np.uint16).tolist()) >= SMALLEST_SCALE_BITS:
        ratio = _widen(values)
        column *= _WIDENING_FACTOR
    else:
        ratio = values.astype(np.float32)
        column[scales == 0] = np.inf
    with np.errstate(over="ignore"):
        ratio /= column[:, np.newaxis]
        ratio *= np.float32(max_code)
    np.rint(ratio, out=ratio)
    if saturate:
        np.clip(ratio, -max_code, max_code, out=ratio)
    return ratio.astype(np.int8)


def _clip(bits: NDArray[np.uint16], limits: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return fp16 numbers clipped to [-scale, scale].

    The arguments and the result contain the bits of the fp16 numbers as unsigned integers. As unsigned integers, the
    bits of every negative number are larger than the bits of every positive number. As signed integers, the bits of
    every negative number are smaller than the bits of every positive number. Both as signed and as unsigned integers,
    the bits of numbers with the same sign are ordered by magnitude.
    """
    clipped: NDArray[np.uint16] = np.minimum(bits, limits[1])
    signed = clipped.view(np.int16)
    np.minimum(signed, limits[0].view(np.int16), out=signed)
    return clipped


def _widen(values: Values | NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return finite fp16 numbers as fp32 numbers that are multiplied by exactly 2^-112.

    Shifting the bits of the numbers takes a quarter of the time of NumPy's conversion to fp32.
    """
    bits = values.view(np.int16).astype(np.int32)
    np.left_shift(bits, _FP16_TO_FP32_SHIFT, out=bits)
    np.bitwise_and(bits, _FP16_IN_FP32, out=bits)
    return bits.view(np.float32)


class KeyCodes(NamedTuple):
    """Codes of a keyframe, with the lowest and the highest code that a dependent frame may have at the same position.

    If the dependent frame's code is in the range from the lowest to the highest code, the residual is in [-Q, Q]. Q is
    the largest code.
    """

    codes: NDArray[np.int8]
    lowest: NDArray[np.int8]
    highest: NDArray[np.int8]


def key_codes(codes: NDArray[np.int8], max_code: int) -> KeyCodes:
    """Return the codes of a keyframe in the form that `residual` needs. `max_code` is the largest code, Q."""
    limit, zeros = np.int8(max_code), np.zeros_like(codes)
    return KeyCodes(codes, np.maximum(codes, zeros) - limit, np.minimum(codes, zeros) + limit)


def residual(codes: NDArray[np.int8], key: KeyCodes) -> NDArray[np.int8]:
    """Return the differences between `codes` and the codes of the keyframe `key`, limited to the range from -Q to Q.

    Q is the largest code. The codes are clipped before the subtraction, so that int8 does not overflow.
    """
    difference = np.maximum(codes, key.lowest)
    np.minimum(difference, key.highest, out=difference)
    return np.subtract(difference, key.codes, out=difference)


def pack(codes: NDArray[np.int8], bits: int) -> bytes:
    """Return the codes as bytes. A code has 8 or 4 bits.

    Each byte contains two 4-bit codes, with the first code in the low nibble. If the number of 4-bit codes is odd, the
    high nibble of the last byte is 0.
    """
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
