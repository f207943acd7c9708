"""Application of the switches of fast mode to a pipeline. Each switch enables a feature of diffusers or torch."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from codec_pixels.device import Device
from codec_wire.errors import InvalidSettings
from codec_wire.first_line import first_line
from core.diffusers_engine.compiler import missing_compiler
from core.diffusers_engine.families import FAMILIES, Family
from core.diffusers_engine.precision import DENOISERS
from core.diffusers_engine.sources import ModelSource
from core.diffusers_engine.step_cache import CACHE_DIT, STEP_CACHES
from core.role import Role
from core.setting_field import PREFIX
from core.switches import Switches

log = logging.getLogger(__name__)


def denoisers_of(pipeline: Any) -> list[Any]:
    """Return the UNets and transformers of `pipeline`."""
    return [part for name in DENOISERS if (part := getattr(pipeline, name, None)) is not None]


@dataclass(frozen=True, slots=True)
class _Model:
    """A loaded pipeline. The functions in _CHECKS decide whether the pipeline supports a switch of fast mode."""

    source: ModelSource
    pipeline: Any
    family: Family
    device: Device

    @property
    def denoisers(self) -> list[Any]:
        return denoisers_of(self.pipeline)

    def has(self, method: str) -> bool:
        return bool(self.denoisers) and all(hasattr(one, method) for one in self.denoisers)


def supported_switches(source: ModelSource, pipeline: Any, family: Family, device: Device) -> Switches:
    """Return the switches of `source` that `pipeline` supports, and log these switches.

    If the pipeline does not support a switch that is on only by default, the switch is turned off. Raises
    InvalidSettings if the pipeline does not support a switch that the user has set.
    """
    model, switches = _Model(source, pipeline, family, device), source.switches
    if source.role is Role.DECODER:
        for name in _DENOISER_SWITCHES:
            switches = switches.without(name)
    if (device.torch_device.type, switches.dtype) == ("cpu", "fp32"):
        switches = switches.without("dtype")  # the dtype of reference mode
    if switches.compile == "auto":
        switches = replace(switches, compile=_automatic_compilation(model))
    for text in switches.names:
        name, _, value = text.partition("=")
        reason = _CHECKS[name](model, value)
        if source.factory is not None and name in _LOADING_SWITCHES:
            reason = "a pipeline from a factory function is not modified"
        if reason is None:
            continue
        if name in switches.required:
            raise InvalidSettings(
                f"{PREFIX}{name.upper()} (--{name.replace('_', '-')}): the value {value or 'on'} is not supported "
                f"by {source.label}, because {reason}. Remove the setting"
            )
        log.warning("fast mode runs without %s, because %s", text, reason)
        switches = switches.without(name)
    if source.is_fast:
        log.warning(
            "FAST MODE: the pixels of %s differ from those in reference mode; switches: %s",
            source.label,
            ", ".join(switches.names) or "none",
        )
    return switches


def place(pipeline: Any, switches: Switches, device: Device) -> None:
    """Move `pipeline` to `device`, and convert the memory format of the components.

    Call this function before other pipelines are built from the components of `pipeline`. Components that are moved or
    converted later would no longer be shared by several pipelines.
    """
    target = device.torch_device
    if switches.offload == "none":
        pipeline.to(target)
    elif switches.offload == "model":
        pipeline.enable_model_cpu_offload(device=target)
    elif switches.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=target)
    else:
        pipeline.enable_group_offload(onload_device=target, offload_type="block_level", num_blocks_per_group=1)
    if switches.channels_last:
        for part in (*denoisers_of(pipeline), pipeline.vae):
            part.to(memory_format=torch.channels_last)
    if switches.vae_tiling:
        pipeline.vae.enable_tiling()
    if switches.vae_slicing:
        pipeline.vae.enable_slicing()


def apply_to_denoisers(denoisers: Sequence[Any], switches: Switches) -> None:
    """Apply the switches that change the attention layers to all `denoisers` of a model.

    Raises InvalidSettings if diffusers refuses the attention backend.
    """
    for denoiser in denoisers:
        if switches.fused_qkv:
            denoiser.fuse_qkv_projections()
        if switches.attention_backend is not None:
            _set_attention_backend(denoiser, switches.attention_backend)


def _set_attention_backend(denoiser: Any, name: str) -> None:
    from diffusers import attention_backend  # noqa: PLC0415 - takes seconds

    try:
        # set_attention_backend also changes the default of the process, which the context manager restores.
        with attention_backend("native"):
            denoiser.set_attention_backend(name)
    except (ValueError, RuntimeError, ImportError) as error:
        reason = first_line(error)
        raise InvalidSettings(
            f"{PREFIX}ATTENTION_BACKEND (--attention-backend): diffusers cannot use the value {name}: {reason}"
        ) from None


def _automatic_compilation(model: _Model) -> str:
    if not model.denoisers or missing_compiler(model.device.torch_device) is not None:
        return "none"
    is_regional = not hasattr(model.pipeline, "unet") and all(one._repeated_blocks for one in model.denoisers)
    return "regional" if is_regional else "full"


def _channels_last(model: _Model, _value: str) -> str | None:
    return None if hasattr(model.pipeline, "unet") else "the pipeline has no UNet"


def _compile(model: _Model, value: str) -> str | None:
    if not model.denoisers:
        return "the model has no denoiser"
    if value == "regional" and not all(one._repeated_blocks for one in model.denoisers):
        return f"{type(model.denoisers[0]).__name__} defines no repeated blocks (allowed values: none, full)"
    return missing_compiler(model.device.torch_device)


def _fused_qkv(model: _Model, _value: str) -> str | None:
    return None if model.has("fuse_qkv_projections") else f"{_denoiser_name(model)} cannot fuse its projections"


def _attention_backend(model: _Model, _value: str) -> str | None:
    processors = [one for denoiser in model.denoisers for one in denoiser.attn_processors.values()]
    if any(hasattr(one, "_attention_backend") for one in processors):
        return None
    return f"the attention of {_denoiser_name(model)} has no backends"


def _step_cache(model: _Model, value: str) -> str | None:
    if value == CACHE_DIT:
        return None
    if not model.has("enable_cache"):
        return f"{_denoiser_name(model)} has no step caches (the only allowed value is none)"
    classes = STEP_CACHES[value]
    if classes is None or model.family.pipeline_class in classes:
        return None
    others = [name for name, found in STEP_CACHES.items() if found is None or model.family.pipeline_class in found]
    return f"{value} does not work with {model.family.pipeline_class} (allowed values: none, {', '.join(others)})"


def _guidance_interval(model: _Model, _value: str) -> str | None:
    classes = (model.family.pipeline_class, *model.family.related)
    if any(FAMILIES[name].guidance_inputs is not None for name in classes):
        return None
    return f"{model.family.pipeline_class} cannot change its guidance between two steps (the only allowed value is 0-1)"


def _quantization(model: _Model, _value: str) -> str | None:
    is_quantized = all(getattr(one, "hf_quantizer", None) is not None for one in model.denoisers)
    return None if is_quantized else "only pipelines in the file layout of diffusers can be quantized"


def _gguf(model: _Model, _value: str) -> str | None:
    is_loaded = _quantization(model, _value) is None
    return None if is_loaded else "a GGUF file replaces the denoiser only in a pipeline in the layout of diffusers"


def _offload(model: _Model, _value: str) -> str | None:
    return "the device is the CPU (the only allowed value is none)" if model.device.torch_device.type == "cpu" else None


def _vae_tiling(model: _Model, _value: str) -> str | None:
    vae = model.pipeline.vae
    return None if hasattr(vae, "use_tiling") else f"{type(vae).__name__} cannot decode in tiles"


def _vae_slicing(model: _Model, _value: str) -> str | None:
    vae = model.pipeline.vae
    return None if hasattr(vae, "use_slicing") else f"{type(vae).__name__} cannot decode in slices"


def _denoiser_name(model: _Model) -> str:
    return " and ".join(type(one).__name__ for one in model.denoisers) or "a model without a denoiser"


_DENOISER_SWITCHES = (
    "compile",
    "fused_qkv",
    "attention_backend",
    "step_cache",
    "guidance_interval",
    "quantization",
    "gguf",
    "batch_size",
)
"""Switches that have no effect on a model without a denoiser. A model without a denoiser only decodes and encodes."""
_LOADING_SWITCHES = ("channels_last", "quantization", "gguf", "offload", "vae_tiling", "vae_slicing", "dtype")
"""Switches that are applied when the components of a pipeline are loaded and placed on the device."""
_CHECKS: Mapping[str, Callable[[_Model, str], str | None]] = {
    "channels_last": _channels_last,
    "compile": _compile,
    "fused_qkv": _fused_qkv,
    "attention_backend": _attention_backend,
    "step_cache": _step_cache,
    "guidance_interval": _guidance_interval,
    "quantization": _quantization,
    "gguf": _gguf,
    "offload": _offload,
    "vae_tiling": _vae_tiling,
    "vae_slicing": _vae_slicing,
    "dtype": lambda _model, _value: None,
    "batch_size": lambda _model, _value: None,
}
"""Functions that check whether a model supports a switch, as a dictionary by the name of the switch.

Each function has the parameters (model, value). Each function returns the reason why the model does not support the
value of the switch, or None.
"""
