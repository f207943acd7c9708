"""Multipliers that quantize fp16 values without a division, to the same codes as the formula of the protocol.

In the protocol, the code of a value x with the scale s is rint((x / s) * Q), where Q is the largest code. For fp16
numbers x and s and a number m near Q / s, rint(x * m) is the same code as rint((x / s) * Q), unless x * Q / s is
exactly halfway between two integers. The proof has two cases:

* Write x as a times a power of two and s as b times a power of two, where a and b are integers below 2048. If x * Q / s
  is not exactly n / 2 for an odd n < 2Q, then x * Q / s and n / 2 differ by at least 1 / (n * b) > 1.9e-6, relative to
  n / 2. The rounding of m and the rounding of x * m together change the product by less than 2.4e-7, relative to the
  product. Therefore, x * m and x * Q / s round to the same integer.
* If x * Q / s is exactly n / 2, the code is the even one of the two nearest integers. A value x for which x * Q / s is
  exactly n / 2 is called a tie. Only ties need a check of the multiplier m, and a scale s has at most Q ties. For most
  scales, the float32 number nearest to Q / s passes the check. For some other scales, the next larger float32 number
  passes the check. For a few scales, the nearest and the next larger float32 number both fail the check.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

SMALLEST_SCALE_BITS = 0x2400
"""Bits of the fp16 number 2^-6. If a scale is at least 2^-6, every fp16 subnormal has the code 0."""
_INFINITY_BITS = 0x7C00
_MANTISSA_BITS = 10
_EXPONENT_BIAS = 15


@cache
def multipliers(max_code: int) -> NDArray[np.float32]:
    """Return a table of the multipliers for all finite fp16 scales, indexed by the bits of the scale.

    The table is a read-only array [0x7C00] of float32. Every multiplier contains a factor of 2^112, because numpy_math
    first multiplies the fp16 numbers by 2^-112. The multiplier is 0 if the scale is smaller than 2^-6 or has no exact
    multiplier.
    """
    significands = np.arange(1 << _MANTISSA_BITS, 2 << _MANTISSA_BITS)
    exact = _multipliers_of_significands(significands, max_code)
    exponents = np.arange(SMALLEST_SCALE_BITS >> _MANTISSA_BITS, _INFINITY_BITS >> _MANTISSA_BITS)
    table = np.zeros(_INFINITY_BITS, np.float32)
    # The scale is significand * 2^(exponent - bias - 10).
    powers = 112 + _EXPONENT_BIAS + _MANTISSA_BITS - exponents
    table[SMALLEST_SCALE_BITS:] = np.ldexp(exact, powers[:, np.newaxis]).reshape(-1)
    table.flags.writeable = False
    return table


def _multipliers_of_significands(significands: NDArray[np.int64], max_code: int) -> NDArray[np.float32]:
    """Return an exact multiplier for each scale in `significands`, or 0 for a scale that has no exact multiplier.

    The result is a float32 array with the shape of `significands`.
    """
    odd = np.arange(1, 2 * max_code, 2)
    products = significands[:, np.newaxis] * odd  # x * 2Q of a tie
    doubled = products // max_code
    # The tie exists if x is an fp16 number: `doubled` is exact and has at most 11 significant bits.
    tie = (products % max_code == 0) & ((doubled < 2048) | (doubled % 2 == 0))
    values = doubled.astype(np.float32) / np.float32(2)
    expected = np.rint(odd / 2).astype(np.float32)
    nearest = np.float32(max_code) / significands.astype(np.float32)
    found = np.zeros_like(nearest)
    for candidate in (np.nextafter(nearest, np.float32(np.inf)), nearest):
        exact = (np.rint(values * candidate[:, np.newaxis]) == expected) | ~tie
        found = np.where(exact.all(axis=1), candidate, found)
    return found
