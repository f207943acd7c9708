"""Sampling whose last steps do not use classifier-free guidance, which halves the time of these steps."""

from collections.abc import Mapping, Sequence
from typing import Any


def with_guidance_cutoff(share: float, inputs: Sequence[str], callback: Mapping[str, Any]) -> dict[str, Any]:
    """Return the callback arguments of a pipeline call that uses guidance only in the first `share` of its steps.

    `inputs` are the names of the tensors whose first half belongs to the unconditional prediction
    (Family.guidance_inputs). `callback` contains the callback arguments of the caller, which are called first. The
    returned callback changes the attribute `_guidance_scale` of the pipeline, like SDCFGCutoffCallback of diffusers,
    but it works with any number of prompts. The next call of the pipeline sets the attribute again.
    """
    listener = callback.get("callback_on_step_end")

    def after_step(pipeline: Any, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        if listener is not None:
            values = listener(pipeline, index, timestep, values)
        if index + 1 == guided_steps(share, pipeline.num_timesteps) and pipeline.do_classifier_free_guidance:
            values |= {name: values[name].chunk(2)[1] for name in inputs}
            pipeline._guidance_scale = 1.0
        return values

    tensors = ["latents", *inputs]
    return {**callback, "callback_on_step_end": after_step, "callback_on_step_end_tensor_inputs": tensors}


def guided_steps(share: float, total: int) -> int:
    """Return the number of steps with guidance, at least 1, if the share `share` of `total` steps uses guidance."""
    return max(1, round(share * total))
