"""LoRA weights that a model is loaded with (CODEC_LORAS)."""

import warnings
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from codec_wire.errors import InvalidSettings, ModelLoadError
from core.model import Lora


@dataclass(frozen=True, slots=True)
class LoraSource:
    """A file, directory or hub id, and how strongly its weights count."""

    place: str
    scale: float

    @property
    def told(self) -> Lora:
        """What clients may know: the last part of the place, never a path of this machine."""
        return Lora(PurePath(self.place).name.removesuffix(".safetensors"), self.scale)


def parse_loras(setting: str | None) -> tuple[LoraSource, ...]:
    """Return what "path:scale,path,…" lists; a scale that is not there is 1. Raises InvalidSettings."""
    return tuple(_parsed(entry.strip()) for entry in (setting or "").split(",") if entry.strip())


def _parsed(entry: str) -> LoraSource:
    place, colon, scale = entry.rpartition(":")
    if not colon:
        return LoraSource(entry, 1.0)
    try:
        return LoraSource(place, float(scale))
    except ValueError:
        raise InvalidSettings(
            f"CODEC_LORAS: must be path:scale, with a number after the colon, got {entry!r}"
        ) from None


def apply_loras(pipeline: Any, sources: tuple[LoraSource, ...], *, allow_pickle: bool) -> None:
    """Add the weights of all `sources` to the pipeline's own, for good: sampling costs no more than without them.

    Raises ModelLoadError naming the one that cannot be read or does not fit.
    """
    if not sources:
        return
    if not hasattr(pipeline, "load_lora_weights"):
        raise ModelLoadError(f"{type(pipeline).__name__} takes no LoRA weights")
    names = [f"lora_{number}" for number in range(len(sources))]
    for name, source in zip(names, sources, strict=True):
        # A file is told from a repository by its folder and name.
        path = Path(source.place)
        where = (str(path.parent), {"weight_name": path.name}) if path.is_file() else (source.place, {})
        try:
            # It warns of the second one beside the first, and that is meant.
            with warnings.catch_warnings(action="ignore", category=UserWarning):
                pipeline.load_lora_weights(
                    where[0], adapter_name=name, use_safetensors=not allow_pickle or None, **where[1]
                )
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelLoadError(f"cannot load the LoRA weights {source.place}: {reason}") from error
    pipeline.set_adapters(names, [source.scale for source in sources])
    pipeline.fuse_lora(adapter_names=names)
    pipeline.unload_lora_weights()
