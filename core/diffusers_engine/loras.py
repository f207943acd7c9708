"""LoRA weights that are added to a model when the model is loaded (CODEC_LORAS)."""

import math
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from codec_wire.errors import InvalidSettings, ModelLoadError
from codec_wire.first_line import first_line
from core.diffusers_engine.lora_loading import load_adapter
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
        path = Path(source.location)
        try:
            load_adapter(
                pipeline,
                name,
                path if path.is_file() else source.location,
                label=source.location,
                allow_pickle=allow_pickle,
                allow_partial=allow_partial,
            )
        except ModelLoadError:
            raise
        except Exception as error:
            raise ModelLoadError(f"cannot load the LoRA weights {source.location}: {first_line(error)}") from error
    pipeline.set_adapters(names, [source.scale for source in sources])
    pipeline.fuse_lora(adapter_names=names)
    pipeline.unload_lora_weights()
