"""Runs a plan on a pipeline: deterministic by seed, cancellable between steps. Called from the device thread alone."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from core.diffusers_engine.loading import LoadedModel
from core.engine import Job
from core.errors import ModelLoadError, OutOfMemory
from core.plan import StreamPlan

StepListener = Callable[[int, int], None]
"""Called with the number of steps done and of those there are: some schedulers take more than were asked for."""


def sample(model: LoadedModel, plan: StreamPlan, job: Job, on_step: StepListener) -> Tensor:
    """Return the latents of `plan`, [frames, channels, height, width] on the pipeline's device.

    Raises the job's own reason as soon as a step ends after it was cancelled, OutOfMemory when the device is full.
    """
    pipeline = model.pipeline
    # A scheduler keeps the state of the run it served; a new one makes every run start alike.
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)

    def after_step(running: Any, index: int, _timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        stop_if_cancelled(job)
        on_step(index + 1, running.num_timesteps)
        return values

    arguments: dict[str, Any] = {
        "prompt": plan.prompt,
        "width": plan.width,
        "height": plan.height,
        "num_inference_steps": plan.steps,
        # Noise drawn on the host is the same on every device.
        "generator": torch.Generator("cpu").manual_seed(plan.seed),
        "output_type": "latent",
        "callback_on_step_end": after_step,
    }
    if plan.negative_prompt is not None:
        arguments["negative_prompt"] = plan.negative_prompt
    if plan.guidance_scale is not None:
        arguments["guidance_scale"] = plan.guidance_scale
    stop_if_cancelled(job)
    with memory_guard(plan):
        latents = model.family.frames(pipeline(**arguments))
    expected = (plan.frames, *plan.header.shape)
    if tuple(latents.shape) != expected:
        raise ModelLoadError(f"{plan.model} gave latents of {tuple(latents.shape)} where {expected} were planned")
    return latents


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
