"""Runs a plan on a pipeline: deterministic by seed, cancellable between steps. Called from the device thread alone."""

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from codec_wire.errors import ModelLoadError, OutOfMemory
from core.diffusers_engine.families import Family
from core.diffusers_engine.input_images import decoded_pictures
from core.diffusers_engine.loader import LoadedModel
from core.engine import Job
from core.plan import StreamPlan

StepListener = Callable[[int, int], None]
"""Called with the number of steps done and of those there are: some schedulers take more than were asked for."""


def sample(
    model: LoadedModel,
    plan: StreamPlan,
    job: Job,
    on_step: StepListener,
    pictures: Mapping[str, Any] | None = None,
) -> Tensor:
    """Return the latents of `plan`, [frames, channels, height, width] on the pipeline's device.

    `pictures` are those that came with it, decoded; None has them decoded here.

    Raises the job's own reason as soon as a step ends after it was cancelled, OutOfMemory when the device is full.
    """
    route = model.route(plan)
    pipeline, family = route.pipeline, route.family
    # A scheduler keeps the state of the run it served; a new one makes every run start alike.
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)

    def after_step(_running: Any, index: int, _timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        stop_if_cancelled(job)
        on_step(index + 1, len(pipeline.scheduler.timesteps) if family.legacy_callback else pipeline.num_timesteps)
        return values

    def after_legacy_step(index: int, timestep: Any, _latents: Tensor) -> None:
        after_step(pipeline, index, timestep, {})

    hook = {"callback": after_legacy_step} if family.legacy_callback else {"callback_on_step_end": after_step}
    stop_if_cancelled(job)
    if pictures is None:
        pictures = decoded_pictures(plan)
    with memory_guard(plan), family.around(pipeline, plan):
        latents = family.frames(pipeline, pipeline(**_arguments(family, plan, pictures), **hook), plan)
    expected = (plan.frames, *plan.header.shape)
    if tuple(latents.shape) != expected:
        raise ModelLoadError(f"{plan.model} gave latents of {tuple(latents.shape)} where {expected} were planned")
    return latents


def _arguments(family: Family, plan: StreamPlan, pictures: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `plan` says, by the names that the family's pipeline has for it; what is None is left out."""
    said = {
        "prompt": plan.prompt,
        "negative_prompt": plan.negative_prompt,
        "guidance_scale": plan.guidance_scale,
        "width": plan.width,
        "height": plan.height,
        "pictures": plan.pictures,
        "fps": plan.header.fps,
        "strength": plan.strength,
        **pictures,
    }
    named = {family.arguments[field]: value for field, value in said.items() if field in family.arguments}
    return {
        **{name: value for name, value in named.items() if value is not None},
        **family.fixed,
        "num_inference_steps": plan.steps,
        # Noise drawn on the host is the same on every device.
        "generator": torch.Generator("cpu").manual_seed(plan.seed),
        "output_type": "latent",
    }


@contextmanager
def memory_guard(plan: StreamPlan) -> Iterator[None]:
    """Turn a lack of memory within into OutOfMemory, and give back what the failed work held."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_lack_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the activations
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise OutOfMemory(
            f"the device has too little memory for {plan.width}x{plan.height}, {plan.frames} frames"
        ) from None


def _is_lack_of_memory(error: Exception) -> bool:
    words = ("allocate memory", "ALLOC_FAILED")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error) for word in words)


def stop_if_cancelled(job: Job) -> None:
    """Raise the reason why `job` must stop, if there is one."""
    if job.reason is not None:
        raise job.reason
