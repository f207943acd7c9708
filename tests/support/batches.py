"""Plans that fit into one batch, sampled alone and together."""

from typing import Any

from torch import Tensor

from codec_wire.errors import Cancelled
from codec_wire.latents import Modality
from codec_wire.request import GenerationRequest
from core.diffusers_engine.batch import BatchMember
from core.diffusers_engine.input_images import decode_inputs
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.sampler import sample, sample_batch
from core.engine import Job
from core.plan import StreamPlan, plan
from tests.support.pipeline_pixels import bundle_with_dtype

PROMPTS = ("a sea at dawn", "a red house in the snow, seen from above", "a cat")
TOLERANCE = 1e-3
"""Maximum difference of latents between a batch and a single generation: kernels round differently for several rows."""


def plans_of(model: LoadedModel, **fields: Any) -> list[StreamPlan]:
    """Return a plan for each of PROMPTS, with its own seed and, if the model supports it, its own negative prompt."""
    bundle = bundle_with_dtype(model, "fp32")
    common = {"steps": 3, "size": (64, 64), "pipeline": "raw", "modality": Modality.IMAGE, **fields}
    has_negative = model.variants[0].mode.negative_prompt
    requests = [
        GenerationRequest(prompt=prompt, seed=seed, negative_prompt=f"fog {seed}" if has_negative else None, **common)
        for seed, prompt in enumerate(PROMPTS)
    ]
    return [plan(request, bundle, model.info) for request in requests]


def largest_differences(model: LoadedModel, plans: list[StreamPlan], cancelled_after: int) -> tuple[float, float]:
    """Sample three plans as a batch, the second of which is cancelled after `cancelled_after` steps.

    Return the largest difference between the latents of the other two and those that they get alone, and the smallest
    distance of one of them from the other plan. Call it on the device thread.
    """
    first, second, third = plans
    alone = [sample(model, one, Job(), lambda _done, _total: None) for one in (first, third)]
    job = Job()

    def cancel(done: int, _total: int) -> None:
        if done == cancelled_after:
            job.cancel(Cancelled("no longer needed"))

    jobs = ((first, Job()), (second, job), (third, Job()))
    found = sample_batch(model, [BatchMember(one, its, decode_inputs(one), cancel) for one, its in jobs])
    assert found[1] is None
    batched = [latents for latents in found if latents is not None]
    assert [latents.shape for latents in batched] == [latents.shape for latents in alone]
    return (
        max(_distance(own, other) for own, other in zip(batched, alone, strict=True)),
        min(_distance(own, other) for own, other in zip(batched, reversed(alone), strict=True)),
    )


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())
