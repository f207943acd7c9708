"""LoRA weights that are added to a model when the model is loaded (CODEC_LORAS)."""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from codec_wire.errors import InvalidSettings, ModelLoadError
from core.diffusers_engine.lora_fit import recorded_keys, require_fit
from core.model import Lora


@dataclass(frozen=True, slots=True)
class LoraSource:
    """A file, directory or hub id of LoRA weights, and the scale of the LoRA weights."""

    location: str
    scale: float

    @property
    def info(self) -> Lora:
        """Description of the LoRA weights for clients.

        The description contains only the last part of `location`, because paths must stay private.
        """
        return Lora(PurePath(self.location).name.removesuffix(".safetensors"), self.scale)


def parse_loras(setting: str | None) -> tuple[LoraSource, ...]:
    """Return the LoRA weights in the value `setting`, which has the form "path:scale,path,...".

    LoRA weights without a scale in `setting` have the scale 1. Raises InvalidSettings if a scale is not a finite
    number.
    """
    return tuple(_parse_lora(entry.strip()) for entry in (setting or "").split(",") if entry.strip())


def _parse_lora(entry: str) -> LoraSource:
    location, colon, scale = entry.rpartition(":")
    if not colon:
        return LoraSource(entry, 1.0)
    try:
        number = float(scale)
    except ValueError:
        raise InvalidSettings(f"CODEC_LORAS: must be path:scale with a number as the scale, got {entry!r}") from None
    if not math.isfinite(number):
        raise InvalidSettings(f"CODEC_LORAS: must be path:scale with a finite number as the scale, got {entry!r}")
    return LoraSource(location, number)


def apply_loras(
    pipeline: Any, sources: tuple[LoraSource, ...], *, allow_pickle: bool, allow_partial: bool = False
) -> None:
    """Merge the LoRA weights of all `sources` into the pipeline, so that LoRA weights do not slow down sampling.

    If `allow_partial` is set and only a part of the LoRA weights fits the model, a warning is logged and no error is
    raised. Raises ModelLoadError if LoRA weights cannot be read or do not fit the model. The ModelLoadError names the
    LoRA weights.
    """
    if not sources:
        return
    if not hasattr(pipeline, "load_lora_weights"):
        raise ModelLoadError(f"{type(pipeline).__name__} does not support LoRA weights (CODEC_LORAS)")
    names = [f"lora_{number}" for number in range(len(sources))]
    for name, source in zip(names, sources, strict=True):
        # diffusers expects the folder and the name of a file as two arguments.
        path = Path(source.location)
        location, options = (str(path.parent), {"weight_name": path.name}) if path.is_file() else (source.location, {})
        try:
            # diffusers warns about every further adapter, which is intended here.
            with (
                warnings.catch_warnings(action="ignore", category=UserWarning),
                recorded_keys(pipeline) as keys,
            ):
                pipeline.load_lora_weights(
                    location, adapter_name=name, use_safetensors=not allow_pickle or None, **options
                )
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelLoadError(f"cannot load the LoRA weights {source.location}: {reason}") from error
        require_fit(pipeline, name, keys, source.location, allow_partial=allow_partial)
    pipeline.set_adapters(names, [source.scale for source in sources])
    pipeline.fuse_lora(adapter_names=names)
    pipeline.unload_lora_weights()
