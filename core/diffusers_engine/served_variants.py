"""Selection of the pipelines of a model that the server can use in its role."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from codec_wire.errors import ModelLoadError
from core.diffusers_engine.families import Family
from core.diffusers_engine.sources import ModelSource, locate_model
from core.diffusers_engine.variants import PipelineVariant, motion_variant, variants_of
from core.diffusers_engine.weight_variants import choose_variant
from core.role import Role

log = logging.getLogger(__name__)

MOTION_ADAPTER = "motion_adapter"
"""Name of the subfolder of a model directory that may contain a MotionAdapter.

An image model with a MotionAdapter can also generate videos.
"""


def served_variants(pipeline: Any, family: Family, source: ModelSource) -> Iterator[PipelineVariant]:
    """Yield the pipelines of the model that the server can use in its role `source.role`.

    Raises ModelLoadError if no pipeline of the model can generate in this role.
    """
    if source.role is Role.DECODER:
        yield PipelineVariant(pipeline, family)
        return
    found = _all_variants(pipeline, family, source)
    if source.role is Role.ALL:
        yield from found
        return
    without_vae = [replace(variant, encodes=False) for variant in found]
    remaining = [variant for variant in without_vae if variant.mode.latents or not variant.mode.image]
    if not remaining:
        raise ModelLoadError(
            f"{source.label} encodes an input image with its VAE, so it cannot generate without the VAE; "
            "remove --no-vae, and unset CODEC_ROLE if it is set to 'generator'"
        )
    yield from remaining


def _all_variants(pipeline: Any, family: Family, source: ModelSource) -> Iterator[PipelineVariant]:
    yield from variants_of(pipeline, family)
    folder = source.motion_adapter
    if folder is None and source.factory is None:
        folder = Path(locate_model(source)) / MOTION_ADAPTER
    if folder is not None and folder.is_dir() and not hasattr(pipeline, MOTION_ADAPTER):
        if source.switches.has_quantized_weights:
            log.warning(
                "%s cannot generate videos, because a motion adapter cannot use quantized weights", source.label
            )
            return
        from diffusers import MotionAdapter  # noqa: PLC0415 - takes seconds

        adapter = MotionAdapter.from_pretrained(
            folder,
            variant=_only_variant(folder, allow_pickle=source.allow_pickle),
            dtype=pipeline.unet.dtype,
            use_safetensors=not source.allow_pickle or None,
        )
        yield motion_variant(pipeline, adapter.to(pipeline.unet.device))


def _only_variant(folder: Path, *, allow_pickle: bool) -> str | None:
    """Return the variant of the weights to load from the component folder `folder`, or None for the default weights."""
    paths = [f"{folder.name}/{path.name}" for path in folder.iterdir()]
    return choose_variant(str(folder), paths, {folder.name}, None, allow_pickle=allow_pickle)
