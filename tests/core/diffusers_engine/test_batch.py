"""Batches: which plans fit together, and the removal of cancelled members from the state of every scheduler."""

from dataclasses import replace

import diffusers
import pytest

from codec_pixels.device_thread import DeviceThread
from codec_wire.errors import Cancelled, InvalidLatents
from codec_wire.extra import ExtraParameters
from core.diffusers_engine.batch import BatchMember, PreviewListener, batch_key
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.sampler import sample_batch
from core.engine import Job
from core.guidance_interval import GuidanceInterval
from tests.support.batches import TOLERANCE, largest_differences, plans_of

SCHEDULERS = (
    "PNDMScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
)
"""Schedulers that store earlier outputs of the model, and one that draws noise in every step."""


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("cancelled_after", [1, 3])
def test_members_keep_their_latents_when_another_is_removed(
    tiny_model: LoadedModel,
    device_thread: DeviceThread,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    cancelled_after: int,
) -> None:
    pipeline = tiny_model.pipeline
    scheduler = getattr(diffusers, name).from_config(pipeline.scheduler.config, prediction_type="epsilon")
    monkeypatch.setattr(pipeline, "scheduler", scheduler)
    plans = plans_of(tiny_model, steps=6)
    changed, distance = device_thread.submit(largest_differences, tiny_model, plans, cancelled_after).result()
    assert changed < TOLERANCE * max(1, distance)
    assert distance > 100 * TOLERANCE


@pytest.mark.parametrize("cancelled_after", [1, 4])
def test_member_is_removed_before_and_after_the_last_step_with_guidance(
    tiny_model: LoadedModel, device_thread: DeviceThread, cancelled_after: int
) -> None:
    model = replace(
        tiny_model,
        variants=tuple(replace(one, guidance_interval=GuidanceInterval.parse("0-0.5")) for one in tiny_model.variants),
    )
    plans = plans_of(model, steps=6)
    changed, distance = device_thread.submit(largest_differences, model, plans, cancelled_after).result()
    assert changed < TOLERANCE * max(1, distance)
    assert distance > 100 * TOLERANCE


def test_batch_with_extra_parameters_has_the_latents_of_single_generations(
    tiny_model: LoadedModel, device_thread: DeviceThread
) -> None:
    plans = plans_of(tiny_model, extra={"guidance_rescale": 0.5, "clip_skip": 1})
    changed, distance = device_thread.submit(largest_differences, tiny_model, plans, 1).result()
    assert changed < TOLERANCE * max(1, distance)
    assert distance > 100 * TOLERANCE


def test_plans_of_other_forms_do_not_fit_into_a_batch(tiny_model: LoadedModel) -> None:
    first, second, _ = plans_of(tiny_model)
    others = [
        replace(first, width=128),
        replace(first, height=128),
        replace(first, steps=4),
        replace(first, guidance_scale=3.0),
        replace(first, strength=0.5),
        replace(first, negative_prompt=None),
        replace(first, model="another"),
        replace(first, extra=ExtraParameters(clip_skip=1)),
    ]
    assert batch_key(first) == batch_key(second) == batch_key(replace(first, rendered=True))
    assert all(batch_key(other) != batch_key(first) for other in others)


def test_error_of_one_preview_does_not_fail_the_other_members(
    tiny_model: LoadedModel, device_thread: DeviceThread
) -> None:
    plans = [replace(one, preview_every=1) for one in plans_of(tiny_model)]
    steps: list[list[int]] = [[], [], []]
    previews: list[int] = []

    def fail(_done: int, _total: int, _estimate: object) -> None:
        raise InvalidLatents("not finite")

    def member(number: int, on_preview: PreviewListener | None) -> BatchMember:
        return BatchMember(plans[number], Job(), {}, lambda done, _total: steps[number].append(done), on_preview)

    members = [member(0, lambda done, _total, _estimate: previews.append(done)), member(1, fail), member(2, None)]
    latents = device_thread.submit(sample_batch, tiny_model, members).result()
    assert [one is None for one in latents] == [False, True, False]
    assert isinstance(members[1].error, InvalidLatents)
    assert steps == [[1, 2, 3], [], [1, 2, 3]]
    assert previews == [1, 2]


def test_batch_stops_when_all_members_are_cancelled(tiny_model: LoadedModel, device_thread: DeviceThread) -> None:
    jobs = [Job() for _ in range(3)]
    steps = []

    def cancel_all(done: int, _total: int) -> None:
        steps.append(done)
        for job in jobs:
            job.cancel(Cancelled("no longer needed"))

    members = [BatchMember(one, job, {}, cancel_all) for one, job in zip(plans_of(tiny_model), jobs, strict=True)]
    with pytest.raises(Cancelled, match="no longer needed"):
        device_thread.submit(sample_batch, tiny_model, members).result()
    assert steps == [1, 1, 1]
