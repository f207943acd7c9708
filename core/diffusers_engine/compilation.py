"""Compilation of a denoiser with torch.compile, for the image sizes that are known at startup."""

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from core.diffusers_engine.batch import BatchMember
from core.diffusers_engine.input_images import decode_inputs
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.sampler import sample, sample_batch
from core.engine import Job
from core.guidance_interval import GuidanceInterval
from core.plan import StreamPlan

log = logging.getLogger(__name__)

GRAPHS_PER_SIZE = 4
"""Number of graphs that torch compiles for one image size. There is one graph for each combination of guidance (with or
without) and batching (with or without)."""
GUIDED_HALF = GuidanceInterval.parse("0-0.5")
"""Guidance interval of the first half of the steps. With this interval, even a generation of a few steps has steps
without guidance."""


def compile_denoiser(model: LoadedModel, plans: Sequence[StreamPlan], cache: Path, batch_size: int = 1) -> None:
    """Compile the denoiser of `model` for the image sizes of `plans`, by sampling every plan.

    The compiled code is stored in the folder `cache`, so that the next start of the server takes only seconds. Images
    of other sizes are generated without compiled code. Batches whose size is neither 1 nor `batch_size` also run
    without compiled code. Nothing is compiled after the start of the server. Therefore no request waits for a compiler,
    and the response to a request does not depend on earlier requests. If the switch `compile` of `model` is off,
    nothing is done. Call this function on the device thread.
    """
    if model.switches.compile == "none":
        return
    try:
        cache.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache))
    except OSError as error:
        log.warning("cannot store compiled code, so every start compiles again: %s", error)
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = max(limit, GRAPHS_PER_SIZE * len(plans))
    torch.compiler.set_stance("default")
    for denoiser in model.denoisers:
        if model.switches.compile == "regional":
            denoiser.compile_repeated_blocks(dynamic=False)
        else:
            denoiser.compile(dynamic=False)
    model = _guided_in_half_of_the_steps(model)
    for plan in plans:
        started_at = time.perf_counter()
        log.info("compiling %s for %dx%d", model.info.name, plan.width, plan.height)
        sample(model, plan, Job(), lambda _done, _total: None)
        if batch_size > 1:
            sample_batch(model, [_member(plan) for _ in range(batch_size)])
        log.info("compiled %dx%d in %.0f s", plan.width, plan.height, time.perf_counter() - started_at)
    torch.compiler.set_stance("eager_on_recompile")


def _guided_in_half_of_the_steps(model: LoadedModel) -> LoadedModel:
    """Return a copy of `model` with the guidance interval GUIDED_HALF in every pipeline that has a guidance interval.

    The generations for compilation have so few steps that the model's own guidance interval could include every step.
    """
    variants = (
        variant if variant.guidance_interval is None else replace(variant, guidance_interval=GUIDED_HALF)
        for variant in model.variants
    )
    return replace(model, variants=tuple(variants))


def _member(plan: StreamPlan) -> BatchMember:
    return BatchMember(plan, Job(), decode_inputs(plan), lambda _done, _total: None)
