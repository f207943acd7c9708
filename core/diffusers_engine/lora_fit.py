"""Check that all weights of a LoRA file were loaded, because diffusers ignores weights that do not fit the model."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from codec_wire.errors import ModelLoadError

log = logging.getLogger(__name__)

_SHOWN_KEYS = 3
"""Maximum number of unmatched keys in a message."""


@contextmanager
def recorded_keys(pipeline: Any, check: Callable[[Mapping[str, Any]], object] | None = None) -> Iterator[list[str]]:
    """Record the keys of the weights that `pipeline.load_lora_weights` reads in the `with` block.

    The recorded keys have the form "<component>.<module>.lora_A.weight". The library diffusers converts the keys in the
    file to this form. Before any weight is loaded, `check` is called with a dictionary of the converted weights by key.
    """
    keys: list[str] = []
    read = pipeline.lora_state_dict

    def record(*arguments: Any, **options: Any) -> Any:
        result = read(*arguments, **options)
        weights = result[0] if isinstance(result, tuple) else result
        if check is not None:
            check(weights)
        keys.extend(weights)
        return result

    pipeline.lora_state_dict = record
    try:
        yield keys
    finally:
        del pipeline.lora_state_dict


def require_fit(pipeline: Any, adapter: str, keys: list[str], location: str, *, allow_partial: bool) -> None:
    """Check that `pipeline` has loaded the weights of all `keys` as part of the LoRA adapter `adapter`.

    `location` is the name of the LoRA file in messages. Raises ModelLoadError if `keys` is empty, or if a key was not
    loaded. The ModelLoadError names the first keys that were not loaded. If `allow_partial` is set and at least one key
    was loaded, a warning is logged instead of raising ModelLoadError.
    """
    if not keys:
        raise ModelLoadError(f"the LoRA file {location} contains no weights")
    unmatched = unmatched_keys(pipeline, adapter, keys)
    if not unmatched:
        return
    shown = ", ".join(unmatched[:_SHOWN_KEYS]) + (", ..." if len(unmatched) > _SHOWN_KEYS else "")
    model = type(pipeline).__name__
    if len(unmatched) == len(keys):
        raise ModelLoadError(f"none of the {len(keys)} keys of the LoRA weights {location} fits {model}. Keys: {shown}")
    problem = f"{len(unmatched)} of {len(keys)} keys of the LoRA weights {location} do not fit {model}: {shown}"
    if not allow_partial:
        raise ModelLoadError(f"{problem}. Set CODEC_PARTIAL_LORAS=true to apply only the keys that fit")
    log.warning("%s; the other keys are applied", problem)


def require_plain_lora(pipeline: Any, weights: Mapping[str, Any]) -> None:
    """Check that `pipeline` can load the LoRA weights `weights` without changing other weights of the pipeline.

    For some LoRA weights, diffusers makes changes that cannot be undone. Layers of a transformer are replaced if the
    LoRA weights have more input or output features than the layer. Weights for norms replace the norms of a
    transformer. For LoKr weights, projections of the transformer are fused.

    Raises ModelLoadError if diffusers would change other weights. Also raises ModelLoadError if the shape of LoRA
    weights does not match the layer, or if the model has none of the layers.
    """
    missing = []
    for key, weight in weights.items():
        if "lora" not in key or "lora_controlnet" in key or ".lokr_" in key:
            raise ModelLoadError(f"{key} is not a weight of a LoRA; only LoRA weights are supported")
        component, _, path = key.partition(".")
        module_name, _, side = path.rpartition(".lora_")
        if side not in _SIDES:
            continue
        try:
            module = getattr(pipeline, component).get_submodule(module_name)
        except AttributeError:
            missing.append(key)
            continue
        axis, features = _SIDES[side]
        received, expected = weight.shape[axis], getattr(module, "base_layer", module).weight.shape[axis]
        # Pipelines with this method pad weights for fewer features than the layer has.
        if received > expected or (received < expected and not hasattr(pipeline, "_maybe_expand_lora_state_dict")):
            raise ModelLoadError(f"{key} has {received} {features} features, but the layer of the model has {expected}")
    if missing and len(missing) == len(weights):
        raise ModelLoadError(
            f"the model has no layer for any of the {len(missing)} LoRA weights; the first of these weights is "
            f"{missing[0]}"
        )


_SIDES = {"A.weight": (1, "input"), "B.weight": (0, "output")}
"""Axis and kind of the layer's features, as a dictionary by the name of the LoRA weight."""


def unmatched_keys(pipeline: Any, adapter: str, keys: list[str]) -> list[str]:
    """Return the `keys` that no component of `pipeline` has loaded as part of the LoRA adapter `adapter`."""
    loaded = {
        name: _loaded_keys(component, adapter)
        for name, component in pipeline.components.items()
        if adapter in (getattr(component, "peft_config", None) or {})
    }
    unmatched = []
    for key in keys:
        component, _, name = key.partition(".")
        if _peft_name(name, component) not in loaded.get(component, ()):
            unmatched.append(key)
    return unmatched


def _loaded_keys(component: Any, adapter: str) -> set[str]:
    from peft import get_peft_model_state_dict  # noqa: PLC0415 - imports torch

    return {_normalized(name) for name in get_peft_model_state_dict(component, adapter_name=adapter)}


def _peft_name(name: str, component: str) -> str:
    """Return the normalized PEFT name of the weight `name` in the component `component`, such as "unet"."""
    from diffusers.utils import state_dict_utils as conversion  # noqa: PLC0415 - takes seconds

    weight = {name: None}
    if "lora_A" not in name and "lora_B" not in name:
        try:
            if component.startswith("text_encoder"):
                weight = conversion.convert_state_dict_to_peft(conversion.convert_state_dict_to_diffusers(weight))
            else:
                weight = conversion.convert_unet_state_dict_to_peft(weight)
        except ValueError:  # a name in no format that diffusers knows
            return _normalized(name)
    return _normalized(str(next(iter(weight))))


def _normalized(name: str) -> str:
    """Return the weight name `name` without the parts that differ between releases of PEFT or transformers."""
    return name.removesuffix(".weight").removeprefix("text_model.")
