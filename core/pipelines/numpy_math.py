"""The pipelines' arithmetic in NumPy, on the whole frame at once.

Everywhere here `values` is a C-contiguous [channels, n] array of the latent-space map's dtype (little-endian fp16 or
fp32), `scales` is fp16 [channels], and `codes` is int8 [channels, n] within [-Q, Q].

The formula is WIRE, section 2: q = clip(rint((x / s) * Q), -Q, Q) in float32, dividing first, half to even.
"""

import numpy as np
from numpy.typing import NDArray

from core.errors import InvalidLatents

Values = NDArray[np.float16] | NDArray[np.float32]

_FP16_MAGNITUDE = np.uint16(0x7FFF)
_FP16_INFINITY = 0x7C00
_FP16_IN_FP32 = np.uint32(0x8FFFE000).view(np.int32)
"""Where sign, exponent and mantissa of an fp16 lie once it is shifted into an fp32's bits."""


def cast(latent: NDArray[np.generic], dtype: np.dtype[np.float16] | np.dtype[np.float32]) -> Values:
    """Return `latent` ([channels, ...], any float dtype) as [channels, n] values of `dtype`.

    What does not fit becomes infinite, as the cast of the reference gives it; the checks below then refuse it.
    """
    with np.errstate(over="ignore"):
        values: Values = np.ascontiguousarray(latent, dtype=dtype).reshape(latent.shape[0], -1)  # type: ignore[assignment]
    return values


def channel_scales(values: Values) -> NDArray[np.float16]:
    """Return max |x| per channel as fp16. Raises InvalidLatents when one is not finite in fp16."""
    if values.dtype == np.float16:
        # Magnitudes of fp16 order like their bit patterns, and NaN and Inf are the largest.
        bits = (values.view(np.uint16) & _FP16_MAGNITUDE).max(axis=1)
        finite = bool(bits.max() < _FP16_INFINITY)
        scales: NDArray[np.float16] = bits.view(np.float16)
    else:
        with np.errstate(over="ignore"):
            scales = np.abs(values).max(axis=1).astype(np.float16)
        finite = bool(np.isfinite(scales).all())
    if not finite:
        raise InvalidLatents("the latents hold NaN, Inf, or a value over what an fp16 scale can hold")
    return scales


def require_finite(values: Values) -> None:
    """Raise InvalidLatents when `values` hold NaN or Inf."""
    if values.dtype == np.float16:
        finite = bool((values.view(np.uint16) & _FP16_MAGNITUDE).max() < _FP16_INFINITY)
    else:
        finite = bool(np.isfinite(values).all())
    if not finite:
        raise InvalidLatents("the latents hold NaN or Inf")


def quantize(values: Values, scales: NDArray[np.float16], max_code: int) -> NDArray[np.int8]:
    """Return the codes of finite `values` against `scales`; a channel with scale 0 gives zeros."""
    if values.dtype == np.float16:
        ratio, divisor = _widened(values), _widened(scales)
    else:
        ratio, divisor = values.astype(np.float32), scales.astype(np.float32)
    divisor = np.where(scales == 0, np.float32(np.inf), divisor)
    with np.errstate(over="ignore"):
        ratio /= divisor[:, np.newaxis]
        ratio *= np.float32(max_code)
    np.rint(ratio, out=ratio)
    np.clip(ratio, -max_code, max_code, out=ratio)
    return ratio.astype(np.int8)


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
    difference = codes.astype(np.int16)
    difference -= key
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
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
