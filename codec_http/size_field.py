"""Parsing of image sizes in a JSON body: "WIDTHxHEIGHT", and the forms of the alias `resolution`."""

import re

from pydantic_core import PydanticCustomError

from codec_wire.integers import parse_integer

AUTO = "auto"
_SIZE = re.compile(r"([0-9]{1,6})[xX]([0-9]{1,6})")
SIZE_SCHEMA = {"type": "string", "pattern": f"^({_SIZE.pattern}|{AUTO})$", "examples": ["512x512"]}
RESOLUTION_SCHEMA = {
    "anyOf": [SIZE_SCHEMA, {"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^[1-9][0-9]*$"}]
}

BOTH_SIZES_SCHEMA = {
    "required": ["size", "resolution"],
    "properties": {name: {"not": {"type": "null"}} for name in ("size", "resolution")},
}
"""Schema of bodies that contain both `size` and its alias `resolution`, which is not allowed."""


def parse_size(value: object) -> object:
    """Parse "WIDTHxHEIGHT" to (width, height) in pixels. Return None for the text "auto"."""
    if value is None or value == AUTO:
        return None
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise PydanticCustomError("size", 'should be "WIDTHxHEIGHT" in pixels, e.g. "512x512"')
    return int(match[1]), int(match[2])


def parse_resolution(value: object) -> object:
    """Parse "WIDTHxHEIGHT", or the side length of a square, to (width, height) in pixels."""
    side = parse_integer(value)
    is_side = isinstance(side, int) and not isinstance(side, bool)
    return (side, side) if is_side else parse_size(value)
