"""Conversion between messages and msgpack maps.

The keys of a msgpack map are in the order that the Codec protocol publishes. Integers have the shortest msgpack form.
Fields that are None are left out.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import msgpack

from codec_wire.errors import MalformedMessage, truncated_repr
from codec_wire.fields import parse_dtype, parse_finish_reason
from codec_wire.latents import FinishReason, LatentFrame, LatentStreamHeader


def encode_header(header: LatentStreamHeader) -> bytes:
    """Return the header as a msgpack map whose first key is `type`."""
    present = {name: value for name, value in _values_of(header) if value is not None}
    packed: bytes = msgpack.packb({"type": "header"} | present)
    return packed


def _values_of(header: LatentStreamHeader) -> Iterator[tuple[str, Any]]:
    """Yield the name and the value of each field, in the order in which the dataclass declares the fields."""
    return ((field.name, getattr(header, field.name)) for field in fields(header))


def encode_frame(frame: LatentFrame) -> bytes:
    """Return the frame as a msgpack map."""
    return b"".join(frame_parts(frame))


def frame_parts(frame: LatentFrame) -> tuple[bytes, ...]:
    """Return the frame as a msgpack map, in parts.

    This function assembles the map itself, so that `data` is copied only once, when the caller joins the parts.
    msgpack.packb would copy `data` three times.
    """
    data, reason = frame.data, frame.finish_reason
    return (
        _FOUR_PAIRS if reason is None else _FIVE_PAIRS,
        _bin_header(len(data)),
        data,
        _SEQ_KEY,
        _uint(frame.seq),
        _FLAGS[frame.keyframe, frame.done],
        b"" if reason is None else _FINISH_REASONS[reason],
    )


_FOUR_PAIRS: bytes = b"\x84" + msgpack.packb("data")
"""Head of a map with four pairs, and the key of the first pair."""
_FIVE_PAIRS: bytes = b"\x85" + msgpack.packb("data")
_SEQ_KEY: bytes = msgpack.packb("seq")
_FLAGS: dict[tuple[bool, bool], bytes] = {
    (keyframe, done): msgpack.packb({"keyframe": keyframe, "done": done})[1:]
    for keyframe in (False, True)
    for done in (False, True)
}
"""Encoded msgpack pairs of the keys `keyframe` and `done`, for each combination of the two values."""
_FINISH_REASONS: dict[FinishReason, bytes] = {
    reason: msgpack.packb({"finish_reason": str(reason)})[1:] for reason in FinishReason
}


def _bin_header(size: int) -> bytes:
    """Return the msgpack header for `size` bytes of binary data, in the shortest of the three possible forms."""
    if size < 2**8:
        return struct.pack(">BB", 0xC4, size)
    if size < 2**16:
        return struct.pack(">BH", 0xC5, size)
    return struct.pack(">BI", 0xC6, size)


def _uint(number: int) -> bytes:
    """Return `number` as a msgpack integer in the shortest form. `number` must be below 2^32."""
    if number < 2**7:
        return bytes((number,))
    # msgpack.packb would allocate a buffer of 256 KiB.
    if number < 2**8:
        return struct.pack(">BB", 0xCC, number)
    if number < 2**16:
        return struct.pack(">BH", 0xCD, number)
    return struct.pack(">BI", 0xCE, number)


def parse_header(message: dict[str, Any]) -> LatentStreamHeader:
    """Return the header in an unpacked msgpack map.

    Raises MalformedMessage if a key is missing or unknown, or if a value is not valid. The error message names the key.
    """
    values = _checked(message, _HEADER_KEYS, "header")
    if values.pop("type") != "header":
        raise MalformedMessage(f"type of the first message must be 'header', got {truncated_repr(message['type'])}")
    values["shape"] = tuple(values["shape"])
    values["dtype"] = parse_dtype(values["dtype"])
    return LatentStreamHeader(**values)


def parse_frame(message: dict[str, Any]) -> LatentFrame:
    """Return the frame in an unpacked msgpack map.

    Raises MalformedMessage if a key is missing or unknown, or if a value is not valid. The error message names the key.
    """
    values = _checked(message, _FRAME_KEYS, "frame")
    values["finish_reason"] = parse_finish_reason(values.get("finish_reason"))
    return LatentFrame(**values)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_Check = tuple[str, bool, Callable[[Any], bool]]
"""Rule for one key of a map.

The rule consists of a description of the type, a flag that is true if the key is required, and a function that returns
whether a value is valid.
"""

_HEADER_KEYS: dict[str, _Check] = {
    "type": ("a string", True, lambda value: isinstance(value, str)),
    "latent_space_id": ("a string", True, lambda value: isinstance(value, str)),
    "shape": ("a list of integers", True, lambda value: isinstance(value, list) and all(map(_is_int, value))),
    "dtype": ("a string", True, lambda value: isinstance(value, str)),
    "pipeline": ("a string", True, lambda value: isinstance(value, str)),
    "scales": ("binary", False, lambda value: isinstance(value, bytes)),
    "fps": ("an integer", False, _is_int),
    "total_frames": ("an integer", False, _is_int),
    "vae_scale_factor": ("a number", False, lambda value: isinstance(value, float) or _is_int(value)),
}
_FRAME_KEYS: dict[str, _Check] = {
    "data": ("binary", True, lambda value: isinstance(value, bytes)),
    "seq": ("an integer", True, _is_int),
    "keyframe": ("a boolean", True, lambda value: isinstance(value, bool)),
    "done": ("a boolean", True, lambda value: isinstance(value, bool)),
    "finish_reason": ("a string", False, lambda value: isinstance(value, str)),
}


def _checked(message: dict[str, Any], keys: dict[str, _Check], kind: str) -> dict[str, Any]:
    """Return a copy of `message` after checking its keys and the types of its values against the rules in `keys`.

    Raises MalformedMessage if a key is unknown or breaks the rule of the key. The error message names the key.
    """
    for name in message:
        if name not in keys:
            raise MalformedMessage(f"the key {truncated_repr(name)} is not allowed in a {kind}")
    for name, (description, required, is_valid) in keys.items():
        if name not in message:
            if required:
                raise MalformedMessage(f"the key {name!r} is missing in a {kind}")
        elif not is_valid(message[name]):
            raise MalformedMessage(f"{name} must be {description}, got {truncated_repr(message[name])}")
    return dict(message)
