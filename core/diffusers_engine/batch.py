"""Batches, in which one call of a pipeline runs several generations. Each generation is one row of the tensors."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from codec_pixels.device_thread import report_progress
from codec_wire.errors import CodecError
from core.diffusers_engine.families import Family
from core.diffusers_engine.families.guidance import has_plain_unet
from core.diffusers_engine.variants import PipelineVariant
from core.diffusers_engine.weighted_prompts import EMBEDDING_ARGUMENTS
from core.engine import Job
from core.plan import StreamPlan

PreviewListener = Callable[[int, int, Tensor], None]
"""Function of (number of completed steps, total number of steps, clean estimate [latent_frames, C, h, w])."""
StepListener = Callable[[int, int], None]
"""Function of (number of completed steps, total number of steps). Some schedulers run more steps than requested."""

_FIELDS_OF_A_ROW = ("prompt", "negative_prompt", "image", "control_image", "mask")
"""Fields whose values may differ between the jobs of a batch. All other arguments of the pipeline call are the same for
all jobs."""


def batch_key(plan: StreamPlan) -> Hashable:
    """Return the key that determines which other plans can be in a batch with `plan`.

    Plans of one model with equal keys can run together in one call of a pipeline.
    """
    return (
        plan.model,
        plan.modality,
        plan.width,
        plan.height,
        plan.steps,
        plan.scheduler,
        plan.prompt_syntax,
        plan.loras,
        # The embeddings of weighted prompts have different lengths.
        None if plan.prompt_syntax is None else (plan.prompt, plan.negative_prompt),
        plan.guidance_scale,
        plan.num_frames,
        plan.header.fps,
        plan.strength,
        plan.negative_prompt is None,  # pipelines may use another embedding than that of an empty text
        plan.inputs,
        plan.latents is None,
        plan.extra,
    )


@dataclass(slots=True, eq=False)
class BatchMember:
    """One generation of a batch, with the plan, the decoded inputs, and the listeners for steps and previews.

    If the generation fails or is cancelled, the member leaves the batch early, and `on_leave` is called with the error.
    `error` is the error with which the member left the batch, or None while the member is in the batch.
    """

    plan: StreamPlan
    job: Job
    inputs: Mapping[str, Any]
    on_step: StepListener
    on_preview: PreviewListener | None = None
    on_leave: Callable[[CodecError], object] | None = None
    error: CodecError | None = None

    def leave(self, error: CodecError) -> None:
        """Remove this member from the batch because of `error`.

        If the member has already left, the first error is kept.
        """
        if self.error is None:
            self.error = error
            if self.on_leave is not None:
                self.on_leave(error)


class Batch:
    """The members and the random generators of a batch, in the order of the rows of the pipeline's tensors.

    If rows cannot be removed from the tensors of `variant` between two steps, the row of a member that leaves the batch
    is kept. The result of a member that has left the batch is discarded. The pipeline must receive the list
    `generators` and not a copy, because the list changes when rows are removed.
    """

    def __init__(
        self, members: Sequence[BatchMember], generators: Sequence[Generator], variant: PipelineVariant
    ) -> None:
        self.rows = list(members)
        self.generators = list(generators)
        self._pipeline = variant.pipeline
        self._tensors = variant.family.guidance_inputs or ()
        # Pipelines of distilled models embed the guidance scale in a tensor that no callback can change. Step caches
        # contain tensors with rows.
        is_removable = variant.family.removable_rows and has_plain_unet(variant.pipeline) and variant.step_cache is None
        self._removes_rows = is_removable and len(self.rows) > 1

    @property
    def members(self) -> list[BatchMember]:
        """The members that have not left the batch."""
        return [member for member in self.rows if member.error is None]

    def checkpoint(self) -> None:
        """Let the cancelled members leave the batch, and record that the device has made progress.

        Raises the error of a member if all members have left the batch.
        """
        for member in self.members:
            if member.job.reason is not None:
                member.leave(member.job.reason)
        if not self.members:
            raise next(member.error for member in self.rows if member.error is not None)
        report_progress()

    @property
    def callback_inputs(self) -> list[str]:
        """The names of the tensors that `without_left` needs.

        The names are passed to the pipeline as the argument `callback_on_step_end_tensor_inputs`.
        """
        return ["latents", *self._tensors] if self._removes_rows else ["latents"]

    def without_left(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return `values` without the rows of the members that have left.

        `values` is a dictionary of tensors by name.

        The rows of members that have left are also removed from the state of the pipeline's scheduler and from the list
        of generators.
        """
        keep = [row for row, member in enumerate(self.rows) if member.error is None]
        if len(keep) == len(self.rows) or not self._removes_rows:
            return values
        rows = len(self.rows)
        values = {name: _select(value, keep, rows) for name, value in values.items()}
        # Multi-step schedulers store earlier samples and outputs of the model, as tensors or as lists of tensors.
        state, dimensions = vars(self._pipeline.scheduler), values["latents"].dim()
        for name, value in list(state.items()):
            if isinstance(value, list):
                state[name] = [_select_state(one, keep, rows, dimensions) for one in value]
            else:
                state[name] = _select_state(value, keep, rows, dimensions)
        self.rows = [self.rows[row] for row in keep]
        self.generators[:] = [self.generators[row] for row in keep]
        return values


def _select(tensor: Tensor, keep: list[int], rows: int) -> Tensor:
    """Return the rows of `tensor` that have the indices `keep`.

    With classifier-free guidance, a tensor has two parts with `rows` rows each.
    """
    parts = tensor.reshape(-1, rows, *tensor.shape[1:])
    return parts[:, keep].flatten(0, 1)


def _select_state(value: Any, keep: list[int], rows: int, dimensions: int) -> Any:
    has_rows = isinstance(value, Tensor) and value.dim() == dimensions and value.shape[0] == rows
    return _select(value, keep, rows) if has_rows else value


def merge_arguments(each: Sequence[Mapping[str, Any]], family: Family, generators: list[Generator]) -> dict[str, Any]:
    """Return the arguments of one pipeline call for several members.

    `each` contains one dictionary of arguments for each member.

    An argument that may differ between members becomes a list of the values of all members. An argument that is a
    tensor, such as input latents or embeddings of prompts, is concatenated along the first axis.
    """
    merged = dict(each[0])
    names = (*(family.arguments.get(field) for field in _FIELDS_OF_A_ROW), *EMBEDDING_ARGUMENTS)
    for name in names:
        if name in merged:
            values = [arguments[name] for arguments in each]
            merged[name] = torch.cat(values) if isinstance(values[0], Tensor) else values
    return {**merged, "generator": generators}
