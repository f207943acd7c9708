"""Check whether the pipelines of a model support LoRA weights in requests."""

from collections.abc import Sequence
from typing import Any

from core.diffusers_engine.sources import ModelSource
from core.diffusers_engine.variants import PipelineVariant
from core.role import Role
from core.switches import Switches

_UNSUPPORTED_SWITCHES = ("compile", "fused_qkv", "step_cache", "quantization", "gguf", "offload")
"""Switches of fast mode with which LoRA weights cannot be added to the layers of a model and removed again."""


def no_loras_reason(source: ModelSource, variants: Sequence[PipelineVariant], switches: Switches) -> str | None:
    """Return the reason why requests must not contain LoRA weights, or None if requests may contain LoRA weights."""
    if source.role is Role.DECODER:
        return "this server only decodes and encodes latents"
    if source.lora_directory is None:
        return "this server has no directory of LoRA files (CODEC_LORA_DIR)"
    for variant in variants:
        name = type(variant.pipeline).__name__
        if not hasattr(variant.pipeline, "load_lora_weights"):
            return f"{name} does not support LoRA weights"
        if any(getattr(part, "peft_config", None) for part in _parts(variant.pipeline)):
            return f"{name} already has LoRA weights that are not merged into its weights"
        if any(getattr(part, "hf_quantizer", None) is not None for part in _parts(variant.pipeline)):
            return f"the weights of {name} are quantized"
    found = [text for text in switches.names if text.partition("=")[0] in _UNSUPPORTED_SWITCHES]
    return f"fast mode runs with {', '.join(found)}" if found else None


def _parts(pipeline: Any) -> list[Any]:
    return [getattr(pipeline, name, None) for name in pipeline._lora_loadable_modules]
