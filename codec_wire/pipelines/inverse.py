"""Decoding of the bytes of a frame to codes (quantized values) and latents.

The functions of this module use only NumPy, so that clients do not need torch.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codec_wire.errors import MalformedMessage
from codec_wire.pipelines.numpy_math import Values, all_finite


def finite_values(data: bytes, dtype: np.dtype[np.float16] | np.dtype[np.float32]) -> Values | None:
    """Return the values in `data` as a read-only array of the dtype `dtype`, or None if a value is NaN or Inf.

    This function is the inverse of the function `raw_bytes`.
    """
    values: Values = np.frombuffer(data, dtype)  # type: ignore[assignment]
    return values if all_finite(values) else None


def unpack(data: bytes | memoryview, bits: int, channels: int, per_channel: int) -> NDArray[np.int8]:
    """Return the quantized values (codes) in `data` as int8 [channels, per_channel].

    This function is the inverse of the function `pack`. `data` must contain exactly channels * per_channel codes.
    Raises MalformedMessage if a code is outside [-Q, Q], where Q is 127 for 8 bits and 7 for 4 bits. Raises
    MalformedMessage also if the padding after an odd number of 4-bit codes is not 0.
    """
    count = channels * per_channel
    if bits == 8:
        codes = np.frombuffer(data, dtype=np.int8)
        forbidden = -128
    else:
        packed = np.frombuffer(data, dtype=np.uint8)
        nibbles = np.empty((packed.size, 2), dtype=np.int8)
        # Arithmetic right shift: extends the sign of the nibble in the high bits.
        nibbles[:, 0] = (packed << 4).view(np.int8) >> 4
        nibbles[:, 1] = packed.view(np.int8) >> 4
        codes = nibbles.reshape(-1)
        if count % 2:
            check_padding(codes.item(-1))
        codes = codes[:count]
        forbidden = -8
    if count and codes.item(codes.argmin()) == forbidden:  # argmin() is faster than min()
        raise invalid_code(forbidden)
    return codes.reshape(channels, per_channel)


def check_padding(nibble: int) -> None:
    """Raise MalformedMessage if `nibble`, the padding after an odd number of 4-bit codes, is not 0."""
    if nibble != 0:
        raise MalformedMessage("the unused high nibble of the last byte of the frame data must be 0")


def invalid_code(code: int) -> MalformedMessage:
    """Return the error for the code -Q - 1, which is outside [-Q, Q]."""
    return MalformedMessage(f"quantized values must be from {code + 1} to {-code - 1}, got {code}")


class KeyCodes(NamedTuple):
    """Codes of a keyframe, with the lowest and the highest residual that can be added to each code.

    If a residual is in the range from the lowest to the highest residual, the sum of code and residual is in [-Q, Q]. Q
    is the largest code.
    """

    codes: NDArray[np.int8]
    lowest: NDArray[np.int8]
    highest: NDArray[np.int8]


def key_codes(codes: NDArray[np.int8], max_code: int) -> KeyCodes:
    """Return the codes of a keyframe in the form that `add_residual` needs. `max_code` is the largest code, Q."""
    limit, zeros = np.int8(max_code), np.zeros_like(codes)
    return KeyCodes(codes, -limit - np.minimum(codes, zeros), limit - np.maximum(codes, zeros))


def add_residual(key: KeyCodes, residual: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return the codes of a frame that is not a keyframe.

    The codes are the sums of the keyframe's codes and `residual`, clipped to [-Q, Q], where Q is the largest code. The
    residual is clipped before the addition, so that int8 does not overflow.
    """
    total = np.minimum(residual, key.highest)
    np.maximum(total, key.lowest, out=total)
    return np.add(total, key.codes, out=total)


def dequantize(codes: NDArray[np.int8], scales: NDArray[np.float16], max_code: int) -> NDArray[np.float32]:
    """Return `codes` [channels, n], multiplied by `scales` [channels] and divided by `max_code`, as float32.

    The float32 multiplication is performed before the float32 division.
    """
    values = codes.astype(np.float32)
    values *= scales.astype(np.float32)[:, np.newaxis]
    values /= np.float32(max_code)
    return values
