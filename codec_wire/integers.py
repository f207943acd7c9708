"""Parsing of integers in requests, which may be written as 2, 2.0 or "2"."""

import re

_DIGITS = re.compile(r"[+-]?[0-9]{1,20}")
"""An integer of at most 20 digits. Every field fits, and the conversion is fast."""


def parse_integer(value: object) -> object:
    """Return the integer that `value` represents: 2, 2.0 or "2". Other values are returned unchanged."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        return int(value)
    return value
