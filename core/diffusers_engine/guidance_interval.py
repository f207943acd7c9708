"""Sampling that uses classifier-free guidance only in some steps.

A step without guidance needs half of the computation.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor


def with_guidance_interval(
    is_guided: Callable[[int, int], bool], inputs: Sequence[str], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Return arguments for a pipeline call in which a step uses guidance only if `is_guided(step, total)` is true.

    The first step has the number 0. The first step always uses guidance. `inputs` contains the names of tensors (see
    Family.guidance_inputs). The first half of each tensor in `inputs` belongs to the unconditional prediction.
    `arguments` contains the callback of the caller. The callback of the caller always receives both halves of each
    tensor. The callback in the returned arguments changes the attribute `_guidance_scale` of the pipeline, like
    SDCFGCutoffCallback of diffusers. Unlike SDCFGCutoffCallback, the returned callback works with any number of prompts
    and can enable guidance again. The next call of the pipeline sets the attribute `_guidance_scale` again.
    """
    listener = arguments.get("callback_on_step_end")
    complete: dict[str, Tensor] = {}
    """Tensors with both halves, as a dictionary by name.

    The dictionary `complete` is empty if the request does not use guidance.
    """
    scales: list[float] = []

    def after_step(pipeline: Any, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        if index == 0 and pipeline.do_classifier_free_guidance:
            scales.append(pipeline.guidance_scale)
        values |= complete
        if listener is not None:
            values = listener(pipeline, index, timestep, values)
        if not scales:
            return values
        complete.update({name: values[name] for name in inputs})
        if is_guided(index + 1, pipeline.num_timesteps):
            pipeline._guidance_scale = scales[0]
            return values
        pipeline._guidance_scale = 1.0
        return values | {name: tensor.chunk(2)[1] for name, tensor in complete.items()}

    tensors = ["latents", *inputs]
    return {**arguments, "callback_on_step_end": after_step, "callback_on_step_end_tensor_inputs": tensors}
