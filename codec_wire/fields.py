"""Conversion of received strings to members of enumerations, for both wire formats."""

from codec_wire.errors import MalformedMessage, truncated_repr
from codec_wire.latents import FinishReason, LatentDtype


def parse_dtype(value: str) -> LatentDtype:
    """Return the dtype with the name `value`. Raises MalformedMessage if the dtype is not supported, such as bf16."""
    try:
        return LatentDtype(value)
    except ValueError:
        allowed = ", ".join(LatentDtype)
        raise MalformedMessage(f"dtype must be one of {allowed}, got {truncated_repr(value)}") from None


def parse_finish_reason(value: str | None) -> FinishReason | None:
    """Return the finish reason with the name `value`. If `value` is None, None is returned.

    Raises MalformedMessage if `value` is a string that does not name a finish reason.
    """
    if value is None:
        return None
    try:
        return FinishReason(value)
    except ValueError:
        allowed = ", ".join(FinishReason)
        raise MalformedMessage(f"finish_reason must be one of {allowed}, got {truncated_repr(value)}") from None
