"""Integers in requests, in the spellings that Codec servers accept."""

import re

_DIGITS = re.compile(r"[+-]?[0-9]{1,20}")
"""At most 20 digits: enough for every integer field, and fast to convert."""


def parse_integer(value: object) -> object:
    """Return the integer that `value` represents: 2, 2.0 or "2". Other values are returned unchanged."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        return int(value)
    return value
