"""The extra parameters that a pipeline accepts.

The module determines the extra parameters from the call signature of the pipeline and from the family table.
"""

from collections.abc import Callable, Iterator
from typing import Any

from codec_wire.extra import ExtraParameters
from core.diffusers_engine.call_signature import call_defaults
from core.diffusers_engine.families import Family
from core.diffusers_engine.families.guidance import TRUE_GUIDANCE
from core.extra_field import ExtraField

_MAX_SCALE = 100.0
_MIN_TOKENS = 8
"""Smallest `max_sequence_length`.

With fewer tokens, the start and end tokens would leave almost no space for a text.
"""


def extra_fields(pipeline: Any, family: Family, *, has_step_cache: bool) -> tuple[ExtraField, ...]:
    """Return the extra parameters that `pipeline` accepts.

    A parameter is accepted if the pipeline's `__call__` has this argument, and if the argument has an effect.
    `has_step_cache` states whether a step cache is enabled. With a step cache, parameters that add a second pass of the
    model per step are not accepted, because the cache stores the state of one pass.
    """
    return tuple(_accepted(pipeline, family, has_step_cache=has_step_cache))


def _accepted(pipeline: Any, family: Family, *, has_step_cache: bool) -> Iterator[ExtraField]:
    defaults = call_defaults(pipeline)
    for name in ExtraParameters.model_fields:
        if name not in defaults:
            continue
        field = _FIELDS[name](pipeline, family, defaults[name])
        adds_a_pass = name == TRUE_GUIDANCE and field is not None and field.same_as is None
        if field is not None and not (has_step_cache and adds_a_pass):
            yield field


def _true_cfg_scale(_pipeline: Any, family: Family, default: Any) -> ExtraField | None:
    if family.arguments.get("negative_prompt") is None or not isinstance(default, int | float):
        return None
    same_as = next((field for field, name in family.arguments.items() if name == TRUE_GUIDANCE), None)
    return ExtraField(TRUE_GUIDANCE, 1.0, _MAX_SCALE, float(default), same_as)


def _guidance_rescale(pipeline: Any, family: Family, default: Any) -> ExtraField | None:
    if not family.uses_negative_prompt(pipeline) or not isinstance(default, int | float):
        return None  # without negative prompts, there is no guided prediction
    return ExtraField("guidance_rescale", 0.0, 1.0, float(default))


def _max_sequence_length(pipeline: Any, family: Family, default: Any) -> ExtraField | None:
    if not isinstance(default, int):
        return None
    maximum = default if family.max_tokens is None else family.max_tokens(pipeline)
    return ExtraField("max_sequence_length", _MIN_TOKENS, maximum, default) if maximum > _MIN_TOKENS else None


def _clip_skip(pipeline: Any, _family: Family, _default: Any) -> ExtraField | None:
    encoders: list[Any] = [getattr(pipeline, name, None) for name in ("text_encoder", "text_encoder_2")]
    layers = [encoder.config.num_hidden_layers for encoder in encoders if "CLIP" in type(encoder).__name__]
    # Pipelines with two encoders always skip the last layer. At least one layer must remain.
    always_skipped = 0 if encoders[1] is None else 1
    maximum = min(layers, default=0) - 1 - always_skipped
    return ExtraField("clip_skip", 0, maximum, 0) if maximum > 0 else None


_FIELDS: dict[str, Callable[[Any, Family, Any], ExtraField | None]] = {
    "true_cfg_scale": _true_cfg_scale,
    "guidance_rescale": _guidance_rescale,
    "max_sequence_length": _max_sequence_length,
    "clip_skip": _clip_skip,
}
"""Functions that return the bounds of an extra parameter, as a dictionary by the name of the extra parameter.

Each function has the parameters (pipeline, family, default value of the argument). A function returns None if the extra
parameter has no effect on the pipeline.
"""
