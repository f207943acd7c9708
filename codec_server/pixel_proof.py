"""Check at the start of a server that decoded latents equal the pixels that diffusers pipelines of the model return."""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from codec_wire.errors import CodecError
from codec_wire.maps import LatentMapBundle
from core.model import ModelInfo
from core.pixel_checks import PixelCheck, load_checks, store_checks
from core.plan import StreamPlan, plan
from core.probe import probe_request

if TYPE_CHECKING:
    from core.diffusers_engine.loader import LoadedModel

log = logging.getLogger(__name__)

LATENT_SIZE = 8
"""Height and width of the latents that are compared with pixels. The value 8 is the smallest size that every level of a
UNet can halve."""


async def prove_pixels(
    model: "LoadedModel", bundle: LatentMapBundle, thread: Executor, models_dir: Path, *, steps: int
) -> tuple[PixelCheck, ...]:
    """Compare decoded latents with the pixels that every diffusers pipeline of `model` returns.

    If the results of all comparisons are already stored, the stored results are returned and nothing is compared. New
    results are stored only if every comparison was possible. The images to compare are generated with the smallest size
    that the model supports and with `steps` sampling steps. Raises ModelLoadError if the pixels differ. See
    core.pixel_checks.
    """
    from core.diffusers_engine.pixel_check import check_key, check_pixels, require_comparison  # noqa: PLC0415 - imports torch

    latent_space, key = model.info.latent_space, check_key(model)
    stored = await asyncio.to_thread(load_checks, models_dir, latent_space, key)
    if stored is not None:
        return stored
    plans = _plans(model.info, bundle, steps)
    checks = await asyncio.get_running_loop().run_in_executor(thread, check_pixels, model, plans)
    require_comparison(model, checks)
    for check in checks:
        log.info("compared decoded latents with the pixels of %s", check)
    if checks and all(check.reason is None for check in checks):
        await asyncio.to_thread(store_checks, models_dir, latent_space, key, checks)
    return checks


def without_unproven_pixels(info: ModelInfo, checks: Sequence[PixelCheck]) -> ModelInfo:
    """Return `info`, or a copy without pixel output if one of `checks` could not compare the pixels."""
    failed = next((check for check in checks if check.reason is not None), None)
    if failed is None or not info.renders:
        return info
    log.warning("%s: the server returns only latents and does not store a latent-space map: %s", info.name, failed)
    return replace(info, renders=False, unproven_pixels=str(failed))


def _plans(info: ModelInfo, bundle: LatentMapBundle, steps: int) -> list[StreamPlan]:
    """Return a plan of a small request for each combination of inputs that the model accepts.

    Combinations without a valid plan are omitted.
    """
    plans, side = [], info.size_multiple * LATENT_SIZE
    for modality in info.modalities:
        for mode in info.modes_of(modality):
            try:
                request = probe_request(info, modality, "warm-up", 0, mode, size=(side, side), steps=steps)
                plans.append(plan(request, bundle, info))
            except CodecError as error:
                log.warning("%s is not compared with the pixels of its pipeline: %s", mode, error)
    return plans
