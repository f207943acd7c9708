"""Validation of the number of sampling steps, by a test with a copy of the pipeline's scheduler."""

import copy
import inspect
import warnings
from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from core.diffusers_engine.clean_estimates import has_estimates
from core.diffusers_engine.families import Family
from core.diffusers_engine.scheduler_choice import alternatives, new_scheduler
from core.diffusers_engine.variants import PipelineVariant, can_add_noise
from core.model import GenerationMode, StepCheck


def step_check(variants: tuple[PipelineVariant, ...], scheduler: str | None = None) -> StepCheck:
    """Return a thread-safe function that returns whether the pipeline of a mode can run a given number of steps.

    `scheduler` is a name in SCHEDULERS, or None for the model's own scheduler.
    """
    by_mode = {variant.mode: _variant_check(variant, scheduler) for variant in variants}

    @lru_cache(maxsize=4096)
    def accepts(mode: GenerationMode, steps: int, strength: float | None) -> bool:
        return by_mode[mode](steps, strength)

    return accepts


def scheduler_checks(variants: tuple[PipelineVariant, ...]) -> dict[str, StepCheck]:
    """Return a dictionary of the results of `step_check` by scheduler name.

    The dictionary contains each scheduler that works with all `variants`.
    """
    names = alternatives(variants[0].pipeline.scheduler)
    with torch.random.fork_rng(devices=[]), np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        return {
            name: step_check(variants, name)
            for name in names
            if all(_can_sample(variant, name) for variant in variants)
        }


def _can_sample(variant: PipelineVariant, name: str) -> bool:
    """Return whether the scheduler `name` runs a few steps with the configuration of the pipeline's own scheduler."""
    try:
        scheduler, family = new_scheduler(variant.pipeline.scheduler, name), variant.family
        if not _has_arguments(scheduler.set_timesteps, family.timesteps_arguments):
            return False
        if not _has_arguments(scheduler.step, family.step_arguments):
            return False
        _set_timesteps(scheduler, 4, family)
        latents = torch.ones(1, 1, 2, 2)
        for timestep in scheduler.timesteps:
            latents = scheduler.step(torch.zeros_like(latents), timestep, latents, return_dict=False)[0]
    except Exception:  # schedulers raise whatever their arithmetic does
        return False
    has_previews = not variant.mode.previews or has_estimates(scheduler)
    return has_previews and can_add_noise(variant, scheduler) and bool(latents.isfinite().all())


def _has_arguments(method: Callable[..., Any], names: tuple[str, ...]) -> bool:
    return set(names) <= inspect.signature(method).parameters.keys()


def _variant_check(variant: PipelineVariant, name: str | None) -> Callable[[int, float | None], bool]:
    pipeline_class, family = type(variant.pipeline), variant.family
    # Some schedulers compute all training timesteps when they are made: 0.4 s for KDPM2. A copy costs microseconds.
    unused = new_scheduler(variant.pipeline.scheduler, name)

    def accepts(steps: int, strength: float | None) -> bool:
        scheduler = copy.deepcopy(unused)
        try:
            with np.errstate(all="ignore"):
                _set_timesteps(scheduler, steps, family)
            timesteps = scheduler.timesteps
            if strength is not None:
                timesteps, _ = pipeline_class.get_timesteps(
                    SimpleNamespace(scheduler=scheduler), steps, strength, "cpu"
                )
            if (
                family.pipeline_class == "PixArtAlphaPipeline"
                and steps == 1
                and not _predicts_original_sample(scheduler)
            ):
                return False
        except Exception:  # schedulers raise whatever their arithmetic does
            return False
        values = torch.as_tensor(timesteps, dtype=torch.float64)
        return len(values) > 0 and bool(values.isfinite().all())

    return accepts


def _predicts_original_sample(scheduler: Any) -> bool:
    """Return whether a step of `scheduler` returns the predicted original sample as a second tensor.

    PixArtAlphaPipeline needs the predicted original sample if there is only one step.
    """
    latents = torch.ones(1, 1, 1, 1)
    return len(scheduler.step(latents, scheduler.timesteps[0], latents, return_dict=False)) > 1


def _set_timesteps(scheduler: Any, steps: int, family: Family) -> None:
    """Call `scheduler.set_timesteps` with the same arguments as the pipeline class of `family`."""
    arguments: dict[str, Any] = {}
    config = scheduler.config
    # The shift depends on the size of the image, which does not change whether the call succeeds.
    if config.get("use_dynamic_shifting") and "mu" in inspect.signature(scheduler.set_timesteps).parameters:
        arguments["mu"] = 1.0
    # SanaSprint has an intermediate timestep only for 2 steps.
    if steps != 2 and "intermediate_timesteps" in inspect.signature(scheduler.set_timesteps).parameters:
        arguments["intermediate_timesteps"] = None
    if family.sigmas is not None and not config.get("use_flow_sigmas"):
        scheduler.set_timesteps(sigmas=family.sigmas(steps), device="cpu", **arguments)
    else:
        scheduler.set_timesteps(steps, device="cpu", **arguments)
