"""Loops over the values of a frame, compiled with Numba. This module requires the extra `kernel`.

Each function is compiled when this module is imported, or loaded from Numba's cache, which is next to this file or in
the user's cache directory. The functions release the GIL. They return the same numbers as NumPy, because Numba's option
`fastmath`, which makes floating-point arithmetic less exact, is not used.

Numba has no fp16 numbers on CPUs, so fp16 numbers are passed as their bits in uint16. A parameter that is only read is
declared read-only, so that it accepts read-only arrays too.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numba import types

if numba.config.DISABLE_JIT:
    raise ImportError("NUMBA_DISABLE_JIT is set, and loops that are not compiled are slower than NumPy")

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_FP16_INFINITY = 0x7C00

log = logging.getLogger(__name__)
# At the level DEBUG, Numba logs every instruction that it compiles.
logging.getLogger("numba").setLevel(logging.WARNING)


def _array(dtype: Any, dimensions: int) -> Any:
    """Return the type of a read-only, C-contiguous and aligned array."""
    return types.Array(dtype, dimensions, "C", readonly=True)


@functools.cache
def _report_compilation() -> None:
    """Log once that loops are compiled. The first function of this module takes a small part of the time."""
    log.info("compiling loops that are not in Numba's cache, which takes several seconds")


def _compile(signature: Any) -> Callable[[FunctionT], FunctionT]:
    """Return a decorator that compiles a function for the types in `signature`."""

    def decorate(function: FunctionT) -> FunctionT:
        options = {"nogil": True, "error_model": "numpy"}
        try:
            compiled: FunctionT = numba.njit(signature, cache=True, **options)(function)
        except Exception as error:  # for example, no directory of the cache is writable, or a file in it is damaged
            log.debug("%s is compiled without Numba's cache: %r", function.__name__, error)
            compiled = numba.njit(signature, **options)(function)
        if not compiled.stats.cache_hits:  # type: ignore[attr-defined]  # the dispatcher that numba.njit returns
            _report_compilation()
        return compiled

    return decorate


@_compile(types.float32(types.uint32))
def _widen(magnitude: Any) -> Any:
    """Return the fp32 number equal to the fp16 number, not negative and finite, whose bits are `magnitude`.

    No fp32 subnormal is involved, because the CPU may flush subnormals to 0. An fp16 subnormal gets the exponent of the
    smallest normal number, 2^-14, and the implicit leading bit, whose value is then subtracted.
    """
    subnormal = np.uint32(magnitude < np.uint32(0x400))
    bits = (magnitude << np.uint32(13)) + np.uint32((127 - 15) << 23) + (subnormal << np.uint32(23))
    return np.uint32(bits).view(np.float32) - np.float32(subnormal) * np.float32(2.0**-14)


@_compile([types.boolean(types.Bytes(types.uint8, 1, "C")), types.boolean(_array(types.uint16, 1))])
def all_finite(buffer: Any) -> Any:
    """Return whether all fp16 numbers in `buffer`, a bytes object or an array of their bits, are finite."""
    values, largest = np.frombuffer(buffer, np.uint16), np.uint16(0)
    for index in range(values.size):
        largest = max(largest, np.uint16(values[index] & np.uint16(0x7FFF)))
    return largest < _FP16_INFINITY


@_compile(types.boolean(_array(types.uint16, 2), types.uint16[::1]))
def channel_scales(values: Any, scales: Any) -> Any:
    """Write the largest absolute value of each channel of `values` to `scales`. Return whether all are finite."""
    overall = np.uint16(0)
    for channel in range(values.shape[0]):
        row, largest = values[channel], np.uint16(0)
        for index in range(row.size):
            largest = max(largest, np.uint16(row[index] & np.uint16(0x7FFF)))
        scales[channel] = largest
        overall = max(overall, largest)
    return overall < _FP16_INFINITY


@_compile(types.void(_array(types.uint16, 2), _array(types.uint16, 1), types.float32, types.int8[:, ::1]))
def quantize(values: Any, scales: Any, max_code: Any, codes: Any) -> Any:
    """Write the codes of the finite fp16 numbers `values` to `codes`.

    The absolute values are first limited to the scale, so that the codes are in [-Q, Q].
    """
    for channel in range(values.shape[0]):
        row, row_codes, scale = values[channel], codes[channel], np.uint32(scales[channel])
        divisor = _widen(scale)
        if scale == 0:
            divisor = np.float32(np.inf)
        for index in range(row.size):
            bits = np.uint32(row[index])
            magnitude = min(bits & np.uint32(0x7FFF), scale)
            code = np.int32(np.rint(_widen(magnitude) / divisor * max_code))
            sign = np.int32(bits >> np.uint32(15))
            row_codes[index] = np.int8((code ^ -sign) + sign)


@_compile(types.void(_array(types.int8, 1), _array(types.int8, 1), types.int32, types.int8[::1]))
def subtract(codes: Any, key_codes: Any, max_code: Any, residual: Any) -> Any:
    """Write the differences between `codes` and `key_codes` to `residual`, limited to [-Q, Q]."""
    for index in range(codes.size):
        difference = np.int32(codes[index]) - np.int32(key_codes[index])
        residual[index] = np.int8(min(max(difference, -max_code), max_code))


@_compile(types.void(_array(types.int8, 1), _array(types.int8, 1), types.int32, types.int8[::1]))
def add(key_codes: Any, residual: Any, max_code: Any, codes: Any) -> Any:
    """Write the sums of `key_codes` and `residual` to `codes`, limited to [-Q, Q]."""
    for index in range(codes.size):
        total = np.int32(key_codes[index]) + np.int32(residual[index])
        codes[index] = np.int8(min(max(total, -max_code), max_code))


@_compile(types.void(_array(types.int8, 1), types.uint8[::1]))
def pack(codes: Any, packed: Any) -> Any:
    """Write two 4-bit codes to each byte of `packed`, the first in the low nibble."""
    pairs = codes.size // 2
    for index in range(pairs):
        packed[index] = np.uint8((codes[2 * index] & 0x0F) | (codes[2 * index + 1] & 0x0F) << 4)
    if codes.size % 2:
        packed[pairs] = np.uint8(codes[codes.size - 1] & 0x0F)


@_compile(types.void(_array(types.uint8, 1), types.int8[::1]))
def unpack(packed: Any, codes: Any) -> Any:
    """Write the 4-bit codes in `packed` to `codes`. This function is the inverse of the function `pack`."""
    for index in range(codes.size // 2):
        low, high = np.int8(packed[index] << 4), np.int8(packed[index])
        codes[2 * index] = low >> 4
        codes[2 * index + 1] = high >> 4
    if codes.size % 2:
        codes[codes.size - 1] = np.int8(packed[packed.size - 1] << 4) >> 4


@_compile(types.int8(_array(types.int8, 1)))
def smallest(codes: Any) -> Any:
    """Return the smallest code."""
    found = codes[0]
    for index in range(codes.size):
        found = min(found, codes[index])
    return found


@_compile(types.void(_array(types.int8, 2), _array(types.uint16, 1), types.float32, types.float32[:, ::1]))
def dequantize(codes: Any, scales: Any, max_code: Any, values: Any) -> Any:
    """Write `codes`, multiplied by the fp16 scales and divided by `max_code`, to `values`."""
    for channel in range(codes.shape[0]):
        row, row_values, scale = codes[channel], values[channel], _widen(np.uint32(scales[channel]))
        for index in range(row.size):
            row_values[index] = np.float32(row[index]) * scale / max_code
