"""The columns of the family table."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from core.diffusers_engine.families.guidance import always
from core.diffusers_engine.families.processors import no_components
from core.model import GenerationMode, RequestLimits
from core.plan import StreamPlan

LatentLayout = Callable[[Any, Any, StreamPlan], Tensor]
"""Function of (pipeline, output of the call, plan) that returns latents [latent_frames, channels, height, width]."""

TEXT_ARGUMENTS = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "guidance_scale": "guidance_scale",
    "width": "width",
    "height": "height",
}
"""Argument names of most text-to-image pipelines, as a dictionary by field of the plan."""
TEXT_VIDEO_ARGUMENTS = {**TEXT_ARGUMENTS, "num_frames": "num_frames"}
"""Argument names of most text-to-video pipelines, as a dictionary by field of the plan."""


def linear_sigmas(steps: int) -> Any:
    """Return the `steps` sigmas from 1 to 1 / steps that most flow-matching pipelines pass to the scheduler."""
    return np.linspace(1.0, 1 / steps, steps)


def linear_sigmas_without_zero(steps: int) -> Any:
    """Return `steps` evenly spaced sigmas from 1 to 1 / steps, computed in the same way as in the Hunyuan pipelines."""
    return np.linspace(1.0, 0.0, steps + 1)[:-1]


def _one(_pipeline: Any) -> int:
    return 1


def _no_limit(_pipeline: Any) -> int | None:
    return None


def _no_check(_pipeline: Any, _plan: StreamPlan) -> None:
    return None


def _no_context(_pipeline: Any, _plan: StreamPlan) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True, slots=True)
class Geometry:
    """Functions that return the sizes in pixels, latent cells and frames that a loaded pipeline uses.

    The argument of each function is the pipeline.
    """

    default_size: Callable[[Any], tuple[int, int]]
    """Function that returns the default size, (width, height) in pixels."""
    channels: Callable[[Any], int] = lambda pipeline: int(pipeline.vae.config.latent_channels)
    """Function that returns the number of latent channels."""
    spatial: Callable[[Any], int] = lambda pipeline: int(pipeline.vae_scale_factor)
    """Function that returns the number of pixels per latent cell along each side."""
    patch: Callable[[Any], int] = _one
    """Function that returns a number of latent cells, the side of a patch.

    The width and the height of the latents must be multiples of this number.
    """
    temporal: Callable[[Any], int] = _one
    """Function that returns the number of video frames per latent frame.

    The first latent frame decodes to one video frame.
    """
    group: int = 1
    """The number of latent frames must be 1 more than a multiple of this number."""
    max_cells: Callable[[Any], int | None] = _no_limit
    """Function that returns the maximum number of latent cells along each side, or None without a maximum.

    The positional embeddings of some transformers limit the number of latent cells along a side.
    """
    max_pixels: Callable[[Any], int | None] = _no_limit
    """Function that returns the maximum number of pixels of a frame, or None without a maximum."""
    has_fixed_size: Callable[[Any], bool] = lambda _pipeline: False
    """Function that returns whether the pipeline generates only the default size."""
    max_frames: Callable[[Any], int | None] = _no_limit
    """Function that returns the maximum number of video frames, or None without a maximum."""
    min_latent_frames: int = 1
    """Minimum number of latent frames of a video."""

    def limits(self, pipeline: Any) -> RequestLimits:
        """Return the default limits of a request, reduced to what `pipeline` can generate."""
        limits, cells, frames = RequestLimits(), self.max_cells(pipeline), self.max_frames(pipeline)
        return replace(
            limits,
            max_side=limits.max_side if cells is None else min(limits.max_side, cells * self.spatial(pipeline)),
            max_frames=limits.max_frames if frames is None else min(limits.max_frames, frames),
        )


@dataclass(frozen=True, slots=True)
class Family:
    """One row of the family table. A family states how to load and call a pipeline class, and how to read latents."""

    pipeline_class: str
    """Name of the pipeline class in diffusers."""
    mode: GenerationMode
    """The output modality and the inputs that the class requires."""
    latents: LatentLayout
    """Function in latent_layouts.py that reads the latents from the output of a call with `output_type="latent"`.

    The scale of the latents must match the entry of the class in codec_pixels.latent_scaling.PIPELINE_SCALINGS.
    """
    geometry: Geometry
    """Functions that read the latent and image sizes of a loaded pipeline."""
    arguments: Mapping[str, str] = field(default_factory=lambda: TEXT_ARGUMENTS)
    """Argument names of the pipeline call, as a dictionary by field of the plan. Fields that are not in the dictionary
    are not passed to the pipeline."""
    fixed_arguments: Mapping[str, Any] = field(default_factory=dict)
    """Additional arguments of every call of the pipeline."""
    load_arguments: Mapping[str, Any] = field(default_factory=dict)
    """Additional arguments of `from_pretrained`."""
    load_components: Callable[[Path], dict[str, Any]] = no_components
    """Function of processors.py that loads components which are then passed to `from_pretrained`.

    The argument of the function is the directory of the model. The keys of the result are the names of the components.
    """
    finish: Callable[[dict[str, Any], StreamPlan], dict[str, Any]] | None = None
    """Function of (arguments, plan) that returns the adapted arguments of the pipeline call.

    The value None means that the pipeline class needs no adaptation.
    """
    related: tuple[str, ...] = ()
    """Names of other pipeline classes in the family table that are also served with the components of the pipeline."""
    other_modes: tuple[GenerationMode, ...] = ()
    """Additional modes in which the same pipeline is called with other inputs than in `mode`."""
    sigmas: Callable[[int], Any] | None = None
    """Function of the number of steps that returns the sigmas that the class passes to the scheduler.

    The attribute `sigmas` has the value None if the class passes the number of steps to the scheduler.
    """
    scales_noise: bool = False
    """Whether the class adds noise to an input image with the scheduler's `scale_noise` instead of `add_noise`."""
    batches: bool = True
    """Whether one call of the class can generate several images or videos from different inputs."""
    tokenized: Callable[[Any, str, str, str, int], tuple[str, int] | None] | None = None
    """Function of (pipeline, name of the tokenizer, field of the plan, prompt, max_sequence_length of the call) that
    returns (text, limit).

    `text` is what the class passes to the tokenizer, and `limit` is the number of tokens that remain after truncation.
    `max_sequence_length` is 0 if the class does not have this argument. The attribute `tokenized` has the value None
    if the class passes the prompt to the tokenizer as most classes do (see prompt_truncation).
    """
    max_tokens: Callable[[Any], int] | None = None
    """Function that returns the largest `max_sequence_length` of a pipeline, or 0 if this argument cannot be changed.

    The attribute `max_tokens` has the value None if the largest `max_sequence_length` is the default value of the
    class.
    """
    check: Callable[[Any, StreamPlan], None] = _no_check
    """Function of (pipeline, plan) that raises InvalidRequest if the pipeline class does not accept the plan.

    The function is called on the device thread, before the response starts.
    """
    call_context: Callable[[Any, StreamPlan], AbstractContextManager[None]] = _no_context
    """Function of (pipeline, plan) that returns the context manager in whose `with` block the pipeline is called."""
    previews: bool = True
    """Whether the scheduler's samples have the layout of the finished latents, so that previews can be computed."""
    guidance_inputs: tuple[str, ...] | None = None
    """Names of the callback tensors that contain two halves for classifier-free guidance.

    The first half of each named tensor contains the values of the unconditional prediction.

    The value None means that the class cannot disable classifier-free guidance between two steps. The tuple is empty
    if the class computes the unconditional prediction separately.
    """
    has_callback: bool = True
    """Whether the class reports steps to a callback. If False, the engine reports the steps of the scheduler."""
    legacy_callback: bool = False
    """Whether the class reports steps by calling `callback(index, timestep, latents)`, as in diffusers before 0.22."""
    uses_guidance_scale: Callable[[Any], bool] = always
    """Function of guidance.py that returns whether a guidance scale changes the latents of a loaded pipeline."""
    uses_negative_prompt: Callable[[Any], bool] = always
    """Function of guidance.py that returns whether a negative prompt changes the latents of a loaded pipeline.

    A pipeline never has a negative prompt if `mode.negative_prompt` is False.
    """
    timesteps_arguments: tuple[str, ...] = ()
    """Names of arguments that the class passes to the scheduler's method `set_timesteps`.

    Some schedulers do not have the arguments in `timesteps_arguments`.
    """
    step_arguments: tuple[str, ...] = ()
    """Names of arguments that the class passes to the scheduler's method `step`.

    Some schedulers do not have the arguments in `step_arguments`.
    """
    removable_rows: bool = False
    """Whether a callback can remove rows of a batch between two steps.

    A callback can remove rows if `guidance_inputs` and the latents are the only tensors with a row for each member of a
    batch.
    """
    is_inferred: bool = False
    """Whether the row was inferred from the signature of the class.

    A model with an inferred row is served only if the decoded latents equal the pixels of the model's pipeline.
    """
