"""Validation of the LoRA weights that a request names."""

from collections.abc import Sequence
from difflib import get_close_matches

from codec_wire.errors import InvalidRequest, truncated_repr
from codec_wire.request_lora import RequestLora
from core.model import ModelInfo

_SHOWN_NAMES = 10
"""Maximum number of available names in a message."""

_COMPARED_NAMES = 500
"""Maximum number of names with which an unknown name is compared, because comparing many names takes long."""


def require_loras(model: ModelInfo, loras: Sequence[RequestLora]) -> None:
    """Check that requests for `model` may contain `loras`, and that the server has LoRA weights with these names.

    In a gateway, the names are not checked, because the upstream server has the LoRA weights.

    Raises InvalidRequest if `model` does not support LoRA weights in requests, or if a name is unknown. For an unknown
    name, the error contains similar names or the available names.
    """
    if not loras:
        return
    received = ", ".join(truncated_repr(lora.name) for lora in loras)
    if model.request_loras is None:
        reason = "" if model.no_loras_reason is None else f", because {model.no_loras_reason}"
        raise InvalidRequest(
            "loras", f"got {received}, but the field is not supported by {model.name}{reason}; remove the field"
        )
    directory = model.lora_directory
    if directory is None:
        return
    for index, lora in enumerate(loras):
        if directory.find(lora.name) is None:
            raise unknown_lora(index, lora.name, directory.names())


def unknown_lora(index: int, name: str, available: Sequence[str]) -> InvalidRequest:
    """Return the error for an unknown LoRA name in entry `index` of the field `loras`.

    The name `name` is not in `available`.
    """
    similar = get_close_matches(name, available[:_COMPARED_NAMES], n=3)
    if similar:
        hint = f"did you mean {' or '.join(map(repr, similar))}?"
    elif available:
        more = ", ..." if len(available) > _SHOWN_NAMES else ""
        hint = f"allowed: {', '.join(available[:_SHOWN_NAMES])}{more}"
    else:
        hint = "this server has no LoRA weights"
    return InvalidRequest(f"loras[{index}].name", f"{truncated_repr(name)} not found; {hint}")
