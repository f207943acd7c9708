"""Validation of the extra parameters of a request against a generation mode of a model."""

from codec_wire.errors import InvalidRequest
from codec_wire.extra import ExtraParameters
from codec_wire.request import COMPEL_SYNTAX, GenerationRequest
from core.model import GenerationMode, ModelInfo


def require_extra(request: GenerationRequest, model: ModelInfo, mode: GenerationMode) -> None:
    """Check the extra parameters of `request` against `mode` of `model`.

    Raises InvalidRequest if a parameter is not accepted, is out of bounds, or has no effect in this request. The
    InvalidRequest names the parameter, the received value and the allowed values.
    """
    if request.extra is None:
        return
    accepted = {field.name: field for field in mode.extra}
    for name, value in request.extra.given.items():
        field = accepted.get(name)
        if field is None:
            allowed = ", ".join(map(str, mode.extra)) if mode.extra else "none"
            raise InvalidRequest(
                f"extra.{name}",
                f"is not supported by {model.name} for {mode}, got {value}; allowed parameters: {allowed}",
            )
        if not field.minimum <= value <= field.maximum:
            raise InvalidRequest(
                f"extra.{name}",
                f"must be from {field.minimum:g} to {field.maximum:g} for {model.name}, got {value}",
            )
        if field.same_as is not None and getattr(request, field.same_as) is not None:
            raise InvalidRequest(
                f"extra.{name}",
                f"must be omitted if the request contains {field.same_as}: {model.name} has one scale for both fields",
            )
    _require_effect(request, request.extra)


def uses_true_guidance(extra: ExtraParameters | None) -> bool:
    """Return whether `extra` turns on classifier-free guidance with a negative prompt."""
    return extra is not None and (extra.true_cfg_scale or 1.0) > 1


def needs_second_pass(extra: ExtraParameters | None, mode: GenerationMode) -> bool:
    """Return whether `extra` makes the model run twice instead of once in each step of `mode`."""
    return uses_true_guidance(extra) and not mode.negative_prompt


def _require_effect(request: GenerationRequest, extra: ExtraParameters) -> None:
    """Raise InvalidRequest if a parameter in `extra` has no effect because of the other fields of `request`."""
    if uses_true_guidance(extra) and request.negative_prompt is None:
        raise InvalidRequest(
            "extra.true_cfg_scale",
            f"must be at most 1 without negative_prompt, got {extra.true_cfg_scale:g}; to use a larger value, send "
            "negative_prompt, which may be empty text",
        )
    if extra.clip_skip is not None and request.prompt_syntax == COMPEL_SYNTAX:
        raise InvalidRequest(
            "extra.clip_skip",
            f"must not be combined with prompt_syntax {COMPEL_SYNTAX}, got both; {COMPEL_SYNTAX} selects the layers "
            "of the text encoder itself",
        )
    if extra.guidance_rescale and request.guidance_scale is not None and request.guidance_scale <= 1:
        raise InvalidRequest(
            "extra.guidance_rescale",
            f"has no effect without guidance: guidance_scale must be above 1 or absent, got {request.guidance_scale:g}",
        )
