"""Parsing of integers in requests. An integer may be written as 2, 2.0 or "2"."""

import re

_DIGITS = re.compile(r"[+-]?[0-9]{1,20}")
"""Pattern of an integer with at most 20 digits. No valid value has more than 20 digits, and the conversion of 20 digits
is fast."""


def parse_integer(value: object) -> object:
    """Return the integer that `value` represents, for example 2 if `value` is 2.0 or "2".

    A value that does not represent an integer is returned unchanged.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        return int(value)
    return value
