"""Check that all weights of a LoRA file were loaded, because diffusers ignores weights that do not fit the model."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from codec_wire.errors import ModelLoadError

log = logging.getLogger(__name__)

_SHOWN_KEYS = 3
"""Maximum number of unmatched keys in a message."""


@contextmanager
def recorded_keys(pipeline: Any) -> Iterator[list[str]]:
    """Record the keys of the weights that `pipeline.load_lora_weights` reads in the `with` block.

    The recorded keys have the form "<component>.<module>.lora_A.weight"; diffusers converts the keys in the file to
    this form.
    """
    keys: list[str] = []
    read = pipeline.lora_state_dict

    def record(*arguments: Any, **options: Any) -> Any:
        result = read(*arguments, **options)
        keys.extend(result[0] if isinstance(result, tuple) else result)
        return result

    pipeline.lora_state_dict = record
    try:
        yield keys
    finally:
        del pipeline.lora_state_dict


def require_fit(pipeline: Any, adapter: str, keys: list[str], location: str, *, allow_partial: bool) -> None:
    """Check that `pipeline` has loaded the weights of all `keys` as part of the LoRA adapter `adapter`.

    `location` is the name of the LoRA file in messages. Raises ModelLoadError if a key was not loaded. The
    ModelLoadError names the first keys that were not loaded. If `allow_partial` is set and at least one key was loaded,
    a warning is logged instead of raising ModelLoadError.
    """
    unmatched = unmatched_keys(pipeline, adapter, keys)
    if not unmatched:
        return
    shown = ", ".join(unmatched[:_SHOWN_KEYS]) + (", ..." if len(unmatched) > _SHOWN_KEYS else "")
    model = type(pipeline).__name__
    if len(unmatched) == len(keys):
        raise ModelLoadError(f"none of the {len(keys)} keys of the LoRA weights {location} fits {model}: {shown}")
    problem = f"{len(unmatched)} of {len(keys)} keys of the LoRA weights {location} do not fit {model}: {shown}"
    if not allow_partial:
        raise ModelLoadError(f"{problem}. Set CODEC_PARTIAL_LORAS=true to apply only the keys that fit")
    log.warning("%s; the other keys are applied", problem)


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
