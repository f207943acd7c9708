"""Turns the loose values that an envelope carries into the typed fields of a message."""

from codec_wire.errors import MalformedMessage, truncated_repr
from codec_wire.latents import FinishReason, LatentDtype


def parse_dtype(value: str) -> LatentDtype:
    """Return the dtype of that name. Raises MalformedMessage for one that cannot travel, bf16 among them."""
    try:
        return LatentDtype(value)
    except ValueError:
        allowed = ", ".join(LatentDtype)
        raise MalformedMessage(f"dtype must be one of {allowed}, got {truncated_repr(value)}") from None


def parse_finish_reason(value: str | None) -> FinishReason | None:
    """Return the reason of that name, or None for none. Raises MalformedMessage for an unknown one."""
    if value is None:
        return None
    try:
        return FinishReason(value)
    except ValueError:
        allowed = ", ".join(FinishReason)
        raise MalformedMessage(f"finish_reason must be one of {allowed}, got {truncated_repr(value)}") from None
