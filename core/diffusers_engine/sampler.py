"""Sampling of a plan with a diffusers pipeline. Sampling is deterministic for a seed and cancellable between steps."""

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from codec_pixels.vae_encoding import draw_sample
from codec_wire.errors import ModelLoadError, OutOfMemory
from codec_wire.latents import Modality
from core.decode_plan import DecodePlan
from core.diffusers_engine.checkpoints import checkpoints, stop_if_cancelled
from core.diffusers_engine.clean_estimates import EstimateListener, report_estimates
from core.diffusers_engine.guidance_cutoff import with_guidance_cutoff
from core.diffusers_engine.input_images import decode_inputs
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.precision import DENOISERS
from core.diffusers_engine.variants import PipelineVariant
from core.encode_plan import EncodePlan
from core.engine import Job
from core.plan import StreamPlan

PreviewListener = Callable[[int, int, Tensor], None]
"""Function of (number of completed steps, total number of steps, clean estimate [latent_frames, C, h, w])."""
StepListener = Callable[[int, int], None]
"""Function of (number of completed steps, total number of steps). Some schedulers run more steps than requested."""


def sample(
    model: LoadedModel,
    plan: StreamPlan,
    job: Job,
    on_step: StepListener,
    inputs: Mapping[str, Any] | None = None,
    *,
    on_preview: PreviewListener | None = None,
) -> Tensor:
    """Sample `plan` and return the latents, [latent_frames, channels, height, width] on the pipeline's device.

    Call this function only on the device thread. `inputs` is the result of decode_inputs. By default, the inputs of the
    plan are decoded. `on_preview` is called with the clean estimate for each preview of the plan. Raises `job.reason`
    after the step in which the job was cancelled, InvalidRequest if an input is broken, OutOfMemory if the device has
    too little memory, and ModelLoadError if the latents have an unexpected shape.
    """
    variant = model.variant_for(plan)
    pipeline, family = variant.pipeline, variant.family

    def total_steps() -> int:
        return len(pipeline.scheduler.timesteps) if family.legacy_callback else int(pipeline.num_timesteps)

    def after_scheduler_step(done: int, estimate: Callable[[], Tensor]) -> None:
        total = total_steps()
        if on_preview is not None and plan.previews_step(done, total):
            clean = estimate()
            on_preview(done, total, family.latents(pipeline, SimpleNamespace(images=clean, frames=clean), plan))

    def after_step(_pipeline: Any, index: int, _timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        stop_if_cancelled(job)
        on_step(index + 1, total_steps())
        return values

    def after_legacy_step(index: int, timestep: Any, _latents: Tensor) -> None:
        after_step(pipeline, index, timestep, {})

    callback = {"callback": after_legacy_step} if family.legacy_callback else {"callback_on_step_end": after_step}
    stop_if_cancelled(job)
    if inputs is None:
        inputs = decode_inputs(plan)
    with memory_guard(plan):
        listener = after_scheduler_step if on_preview is not None and plan.has_previews else None
        output = call_pipeline(variant, plan, inputs, "latent", job, on_estimate=listener, **callback)
        latents = family.latents(pipeline, output, plan)
    expected = (plan.latent_frames, *plan.header.shape)
    if tuple(latents.shape) != expected:
        raise ModelLoadError(f"{plan.model} returned latents of shape {tuple(latents.shape)}, expected {expected}")
    return latents


def call_pipeline(
    variant: PipelineVariant,
    plan: StreamPlan,
    inputs: Mapping[str, Any],
    output_type: str,
    job: Job,
    *,
    on_estimate: EstimateListener | None = None,
    **callback: Any,
) -> Any:
    """Call the pipeline for `plan` and return the output of the pipeline. `inputs` is the result of decode_inputs.

    If the plan is for a video and `job` is cancelled, the call stops within a step, because the steps of a video can
    take minutes.
    """
    pipeline, family = variant.pipeline, variant.family
    # A scheduler keeps state from its previous run; a new one makes the result independent of earlier requests.
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    if variant.guidance_cutoff < 1:
        callback = with_guidance_cutoff(variant.guidance_cutoff, family.guidance_inputs or (), callback)
    if variant.step_cache is not None:
        variant.step_cache.begin(pipeline, plan.steps)
    with family.call_context(pipeline, plan), ExitStack() as stack:
        if plan.modality is Modality.VIDEO:
            for denoiser in filter(None, (getattr(pipeline, name, None) for name in DENOISERS)):
                stack.enter_context(checkpoints(denoiser, job))
        if on_estimate is not None:
            stack.enter_context(report_estimates(pipeline.scheduler, on_estimate))
        return pipeline(**_arguments(variant, plan, inputs), output_type=output_type, **callback)


def _arguments(variant: PipelineVariant, plan: StreamPlan, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of the pipeline call. Fields of the plan that are None are omitted."""
    values = {
        "prompt": plan.prompt,
        "negative_prompt": plan.negative_prompt,
        "guidance_scale": plan.guidance_scale,
        "width": plan.width,
        "height": plan.height,
        "num_frames": plan.num_frames,
        "fps": plan.header.fps,
        "strength": plan.strength,
        **inputs,
    }
    family = variant.family
    # A CPU generator gives the same noise for every device.
    generator = torch.Generator("cpu").manual_seed(plan.seed)
    if plan.latents is not None:
        # The pipeline would have sampled the distribution of its VAE before it draws the noise.
        draw_sample(variant.pipeline.vae, plan.header.shape, family.pipeline_class, generator)
    arguments = {family.arguments[field]: value for field, value in values.items() if field in family.arguments}
    return {
        **{name: value for name, value in arguments.items() if value is not None},
        **family.fixed_arguments,
        "num_inference_steps": plan.steps,
        "generator": generator,
    }


@contextmanager
def memory_guard(plan: StreamPlan | DecodePlan | EncodePlan | None) -> Iterator[None]:
    """Convert out-of-memory errors in the `with` block to OutOfMemory, and free the memory that the block used."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # the frames hold the activations
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        size = "this request" if plan is None else f"{plan.num_frames} frames of {plan.width}x{plan.height}"
        raise OutOfMemory(
            f"the device has too little memory for {size}; request a smaller size or fewer frames"
        ) from None


def _is_out_of_memory(error: Exception) -> bool:
    texts = ("allocate memory", "ALLOC_FAILED")  # some CPU and cuDNN errors are plain RuntimeErrors
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in str(error) for text in texts)
