"""Sampling of the latents of a plan with a diffusers pipeline.

Sampling is deterministic for a seed, and a generation can be cancelled between two steps.
"""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from codec_pixels.vae_encoding import draw_sample
from codec_wire.errors import CodecError, ModelLoadError, OutOfMemory
from codec_wire.latents import Modality
from core.decode_plan import DecodePlan
from core.diffusers_engine.batch import Batch, BatchMember, PreviewListener, StepListener, merge_arguments
from core.diffusers_engine.checkpoints import checkpoints, stop_if_cancelled
from core.diffusers_engine.clean_estimates import EstimateListener, report_estimates
from core.diffusers_engine.clip_layers import with_text_model
from core.diffusers_engine.guidance_interval import with_guidance_interval
from core.diffusers_engine.input_images import decode_inputs
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.precision import DENOISERS
from core.diffusers_engine.prompt_cache import PromptCache
from core.diffusers_engine.scheduler_choice import new_scheduler
from core.diffusers_engine.variants import PipelineVariant
from core.diffusers_engine.weighted_prompts import embedding_arguments
from core.encode_plan import EncodePlan
from core.engine import Job
from core.plan import StreamPlan


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

    Call this function only on the device thread. `inputs` is the result of decode_inputs. Without `inputs`, the
    inputs of the plan are decoded. `on_preview` is called with the clean estimate for each preview of the plan. If the
    job is cancelled, raises `job.reason` after the current step. Raises InvalidRequest if an input is broken, and
    OutOfMemory if the device has too little memory. Raises ModelLoadError if the latents have an unexpected shape.
    """
    stop_if_cancelled(job)
    if inputs is None:
        inputs = decode_inputs(plan)
    (latents,) = sample_batch(model, [BatchMember(plan, job, inputs, on_step, on_preview)])
    assert latents is not None  # noqa: S101 - sample_batch raises an error if the only member has left
    return latents


def sample_batch(model: LoadedModel, members: Sequence[BatchMember]) -> list[Tensor | None]:
    """Run the plans of all `members` in one call of the pipeline.

    All plans must have the same `batch_key`. See `sample`. Return a list with one item for each member: the latents, or
    None if the member has left the batch. A member leaves the batch after the step in which the job of the member is
    cancelled. A member also leaves the batch if the preview listener of the member raises a CodecError. Raises the
    error of a member if all members have left the batch.
    """
    plan = members[0].plan
    with memory_guard(plan), model.applied_loras(plan):
        return _sample_batch(model, members)


def _sample_batch(model: LoadedModel, members: Sequence[BatchMember]) -> list[Tensor | None]:
    plan = members[0].plan
    variant = model.variant_for(plan)
    pipeline, family = variant.pipeline, variant.family
    each = [_arguments(variant, member.plan, member.inputs, model.prompts) for member in members]
    batch = Batch(members, [arguments["generator"] for arguments in each], variant)
    arguments = each[0] if len(each) == 1 else merge_arguments(each, family, batch.generators)

    def total_steps() -> int:
        return len(pipeline.scheduler.timesteps) if family.legacy_callback else int(pipeline.num_timesteps)

    def after_scheduler_step(done: int, estimate: Callable[[], Tensor]) -> None:
        total = total_steps()
        listeners = [
            (row, member, member.on_preview)
            for row, member in enumerate(batch.rows)
            if member.error is None and member.on_preview is not None and member.plan.previews_step(done, total)
        ]
        clean = estimate() if listeners else None
        for row, member, listener in listeners:
            try:
                listener(done, total, family.latents(pipeline, _row_of(clean, row), member.plan))
            except CodecError as error:
                member.leave(error)

    def after_step(_pipeline: Any, index: int, _timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        batch.checkpoint()
        for member in batch.members:
            member.on_step(index + 1, total_steps())
        return batch.without_left(values)

    def after_legacy_step(index: int, timestep: Any, _latents: Tensor) -> None:
        after_step(pipeline, index, timestep, {})

    def after_step_without_callback(done: int, estimate: Callable[[], Tensor]) -> None:
        after_step(pipeline, done - 1, None, {})
        after_scheduler_step(done, estimate)

    callback: dict[str, Any] = {
        "callback_on_step_end": after_step,
        "callback_on_step_end_tensor_inputs": batch.callback_inputs,
    }
    if family.legacy_callback:
        callback = {"callback": after_legacy_step}
    has_previews = any(member.on_preview is not None and member.plan.has_previews for member in members)
    on_estimate = after_scheduler_step if has_previews else None
    if not family.has_callback:
        callback, on_estimate = {}, after_step_without_callback
    output = _run_pipeline(
        variant,
        plan,
        {**arguments, **callback, "output_type": "latent"},
        [member.job for member in members],
        on_estimate,
    )
    rows = {
        member: family.latents(pipeline, _row_of(output[0], row), member.plan)
        for row, member in enumerate(batch.rows)
        if member.error is None
    }
    expected = (plan.latent_frames, *plan.header.shape)
    for latents in rows.values():
        if tuple(latents.shape) != expected:
            raise ModelLoadError(f"{plan.model} returned latents of shape {tuple(latents.shape)}, expected {expected}")
    if len(members) > 1:  # a view would keep the latents of the other members in memory
        rows = {member: latents.clone() for member, latents in rows.items()}
    return [rows.get(member) for member in members]


def _row_of(tensor: Any, row: int) -> SimpleNamespace:
    """Return the row number `row` of the latents `tensor`, as an object with the attributes of a pipeline output."""
    part = tensor[row : row + 1]
    return SimpleNamespace(images=part, frames=part)


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

    If `job` is cancelled during the generation of a video, the call stops within a step, because a step of a video can
    take minutes.
    """
    arguments = {**_arguments(variant, plan, inputs, PromptCache()), "output_type": output_type, **callback}
    return _run_pipeline(variant, plan, arguments, [job], on_estimate)


def _run_pipeline(
    variant: PipelineVariant,
    plan: StreamPlan,
    arguments: Mapping[str, Any],
    jobs: Sequence[Job],
    on_estimate: EstimateListener | None,
) -> Any:
    """Call the pipeline with `arguments`.

    `plan` is one of the plans of the batch. `jobs` contains all jobs of the batch.
    """
    pipeline, family = variant.pipeline, variant.family
    own = pipeline.scheduler
    # A scheduler keeps state from its previous run; a new one makes the result independent of earlier requests.
    pipeline.scheduler = new_scheduler(own, plan.scheduler)
    if variant.guidance_interval is not None:
        is_guided, tensors = variant.guidance_interval.is_guided, family.guidance_inputs or ()
        arguments = with_guidance_interval(is_guided, tensors, arguments)
    if variant.step_cache is not None:
        variant.step_cache.begin(pipeline, plan.steps)
    with ExitStack() as stack:
        if plan.scheduler is not None:
            stack.callback(setattr, pipeline, "scheduler", own)
        stack.enter_context(family.call_context(pipeline, plan))
        if plan.extra is not None and plan.extra.clip_skip is not None:
            stack.enter_context(with_text_model(pipeline))
        if plan.modality is Modality.VIDEO:
            for denoiser in filter(None, (getattr(pipeline, name, None) for name in DENOISERS)):
                stack.enter_context(checkpoints(denoiser, *jobs))
        if on_estimate is not None:
            stack.enter_context(report_estimates(pipeline.scheduler, on_estimate))
        return pipeline(**arguments)


def _arguments(
    variant: PipelineVariant, plan: StreamPlan, inputs: Mapping[str, Any], prompts: PromptCache
) -> dict[str, Any]:
    """Return the keyword arguments of the pipeline call. Fields of the plan that are None are omitted."""
    embeddings = embedding_arguments(variant, plan, prompts)
    values = {
        "prompt": None if embeddings else plan.prompt,
        "negative_prompt": None if embeddings else plan.negative_prompt,
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
    fields = {field: value for field, value in values.items() if value is not None and field in family.arguments}
    arguments = {family.arguments[field]: value for field, value in fields.items()}
    if family.finish is not None:
        arguments = family.finish(arguments, plan)
    return {
        **arguments,
        **embeddings,
        **family.fixed_arguments,
        **({} if plan.extra is None else plan.extra.given),
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
