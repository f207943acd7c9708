"""Messages as msgpack maps: keys in the published order, absent optional fields left out, ints minimal."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import msgpack

from codec_wire.fields import finish_reason, latent_dtype
from core.errors import MalformedMessage, shown
from core.latents import LatentFrame, LatentStreamHeader


def encode_header(header: LatentStreamHeader) -> bytes:
    """Return the header as one msgpack map, `type` first."""
    packed: bytes = msgpack.packb({"type": "header"} | _present_fields(header))
    return packed


def encode_frame(frame: LatentFrame) -> bytes:
    """Return the frame as one msgpack map."""
    packed: bytes = msgpack.packb(_present_fields(frame))
    return packed


def _present_fields(message: LatentStreamHeader | LatentFrame) -> dict[str, Any]:
    """Return the fields that are not None, in the order of the dataclass, which is that of the wire."""
    values = ((field.name, getattr(message, field.name)) for field in fields(message))
    return {name: value for name, value in values if value is not None}


def parse_header(message: dict[str, Any]) -> LatentStreamHeader:
    """Return the header that a decoded map holds. Raises MalformedMessage naming the key at fault."""
    values = _checked(message, _HEADER_KEYS, "header")
    if values.pop("type") != "header":
        raise MalformedMessage(f"the first message must have type 'header', got {shown(message['type'])}")
    values["shape"] = tuple(values["shape"])
    values["dtype"] = latent_dtype(values["dtype"])
    return LatentStreamHeader(**values)


def parse_frame(message: dict[str, Any]) -> LatentFrame:
    """Return the frame that a decoded map holds. Raises MalformedMessage naming the key at fault."""
    values = _checked(message, _FRAME_KEYS, "frame")
    values["finish_reason"] = finish_reason(values.get("finish_reason"))
    return LatentFrame(**values)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_Check = tuple[str, bool, Callable[[Any], bool]]
"""What a value must be, in words; whether it must be there; the test of it."""

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
    """Return a copy of `message` whose keys and value types are those of `keys`."""
    for name in message:
        if name not in keys:
            raise MalformedMessage(f"a {kind} has no key {shown(name)}")
    for name, (what, required, is_right) in keys.items():
        if name not in message:
            if required:
                raise MalformedMessage(f"a {kind} needs the key {name!r}")
        elif not is_right(message[name]):
            raise MalformedMessage(f"{name} must be {what}, got {shown(message[name])}")
    return dict(message)
