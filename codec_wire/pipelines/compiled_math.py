"""Quantization, packing and their inverses with the loops of the module `compiled`.

The functions are those of the modules numpy_math, for fp16 values, and inverse. They return the same numbers and raise
the same errors.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codec_wire.errors import InvalidLatents
from codec_wire.pipelines import compiled
from codec_wire.pipelines.inverse import check_padding, invalid_code
from codec_wire.pipelines.numpy_math import NO_FINITE_SCALE, NOT_FINITE, Values, to_bytes

__all__ = ["to_bytes"]


def raw_bytes(values: Values) -> bytes:
    """Return finite values as bytes. See numpy_math.raw_bytes."""
    data = values.tobytes()
    if not compiled.all_finite(data):
        raise InvalidLatents(NOT_FINITE)
    return data


def require_finite(values: Values) -> None:
    """Raise InvalidLatents if `values` contains NaN or Inf."""
    if not compiled.all_finite(np.frombuffer(values, np.uint16)):
        raise InvalidLatents(NOT_FINITE)


def channel_scales(values: Values) -> NDArray[np.float16]:
    """Return the scale of each channel. See numpy_math.channel_scales."""
    scales = np.empty(len(values), np.uint16)
    if not compiled.channel_scales(values.view(np.uint16), scales):
        raise InvalidLatents(NO_FINITE_SCALE)
    return scales.view(np.float16)


def scaling(scales: NDArray[np.float16], _dtype: np.dtype[np.float16], _max_code: int) -> NDArray[np.uint16]:
    """Return the bits of the scales, which the function `quantize` needs."""
    return scales.view(np.uint16)


def static_scaling(scales: NDArray[np.float16], _values: Values, _max_code: int) -> NDArray[np.uint16]:
    """Return the bits of static scales, which the function `quantize` needs."""
    return scales.view(np.uint16)


def quantize(values: Values, scaling: NDArray[np.uint16], max_code: int, *, saturate: bool) -> NDArray[np.int8]:
    """Return the codes of finite `values`. See numpy_math.quantize."""
    del saturate  # the loop always limits the codes, because that takes no time
    codes = np.empty(values.shape, np.int8)
    compiled.quantize(values.view(np.uint16), scaling, max_code, codes)
    return codes


class KeyCodes(NamedTuple):
    """Codes of a keyframe and the largest code, Q."""

    codes: NDArray[np.int8]
    max_code: int


def key_codes(codes: NDArray[np.int8], max_code: int) -> KeyCodes:
    """Return the codes of a keyframe in the form that `residual` and `add_residual` need."""
    return KeyCodes(codes.reshape(-1), max_code)


def residual(codes: NDArray[np.int8], key: KeyCodes) -> NDArray[np.int8]:
    """Return the differences between `codes` and the codes of the keyframe `key`. See numpy_math.residual."""
    difference = np.empty(codes.size, np.int8)
    compiled.subtract(codes.reshape(-1), key.codes, key.max_code, difference)
    return difference


def pack(codes: NDArray[np.int8], bits: int) -> bytes:
    """Return the codes as bytes. See numpy_math.pack."""
    if bits == 8:
        return codes.tobytes()
    packed = np.empty((codes.size + 1) // 2, np.uint8)
    compiled.pack(codes.reshape(-1), packed)
    return packed.tobytes()


def finite_values(data: bytes, dtype: np.dtype[np.float16]) -> NDArray[np.float16] | None:
    """Return the values in `data`, or None if a value is not finite. See inverse.finite_values."""
    values: NDArray[np.float16] = np.frombuffer(data, dtype)
    # The second form is slower, but accepts every buffer.
    finite = compiled.all_finite(data) if isinstance(data, bytes) else compiled.all_finite(values.view(np.uint16))
    return values if finite else None


def unpack(data: bytes | memoryview, bits: int, channels: int, per_channel: int) -> NDArray[np.int8]:
    """Return the codes in `data` as int8 [channels, per_channel]. See inverse.unpack."""
    if bits == 8:
        codes, forbidden = np.frombuffer(data, np.int8), -128
    else:
        count = channels * per_channel
        if count % 2:
            check_padding(data[-1] >> 4)
        codes, forbidden = np.empty(count, np.int8), -8
        compiled.unpack(np.frombuffer(data, np.uint8), codes)
    if compiled.smallest(codes) == forbidden:
        raise invalid_code(forbidden)
    return codes.reshape(channels, per_channel)


def add_residual(key: KeyCodes, residual: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return the codes of a frame that is not a keyframe. See inverse.add_residual."""
    codes = np.empty(residual.shape, np.int8)
    compiled.add(key.codes, residual.reshape(-1), key.max_code, codes.reshape(-1))
    return codes


def dequantize(codes: NDArray[np.int8], scales: NDArray[np.float16], max_code: int) -> NDArray[np.float32]:
    """Return `codes`, multiplied by `scales` and divided by `max_code`. See inverse.dequantize."""
    values = np.empty(codes.shape, np.float32)
    compiled.dequantize(codes, scales.view(np.uint16), max_code, values)
    return values
