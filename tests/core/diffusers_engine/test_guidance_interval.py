"""Steps without guidance return the prediction for the prompt, also with masks and control images, and in batches."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from codec_pixels.device import Device
from codec_wire.request import parse_request
from core.diffusers_engine.families import FAMILIES
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.sampler import sample
from core.engine import Job
from core.guidance_interval import GuidanceInterval
from core.plan import plan
from core.probe import sample_image, sample_mask
from tests.support.batches import TOLERANCE, largest_differences, plans_of
from tests.support.factories import load_built
from tests.support.families.cases import CASES, Case, pipeline_class_name
from tests.support.pipeline_pixels import bundle_with_dtype

pytestmark = pytest.mark.slow

INTERVAL = GuidanceInterval.parse("0-0.3/0.7-0.9")
SIDE, STEPS = 64, 10
IMAGES = {"image": sample_image(0, SIDE), "control_image": sample_image(1, SIDE), "mask": sample_mask(SIDE)}
NAMES = [
    name for name, case in CASES.items() if FAMILIES[pipeline_class_name(name)].guidance_inputs and not case.num_frames
]
MASKED = [name for name in NAMES if "mask" in CASES[name].images]


def images_of(case: Case) -> dict[str, Any]:
    return {field: IMAGES[field] for field in case.images}


def with_interval(model: LoadedModel) -> LoadedModel:
    return replace(model, variants=tuple(replace(one, guidance_interval=INTERVAL) for one in model.variants))


@pytest.mark.parametrize("name", NAMES)
def test_latents_are_those_of_predictions_without_the_unconditional_half(name: str, device: Device) -> None:
    model = load_built(CASES[name].build(), device)
    fields = {"prompt": "a sea", "negative_prompt": "fog", "steps": STEPS, "size": (SIDE, SIDE), "seed": 3}
    request = parse_request(fields | images_of(CASES[name]))
    one = plan(request, bundle_with_dtype(model, "fp32"), model.info)
    pipeline = model.variant_for(one).pipeline
    calls: list[bool] = []

    def use_prompt_only(_module: Any, _arguments: Any, output: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        """Replace the prediction for the negative prompt, which then cancels out, outside of the interval."""
        calls.append(INTERVAL.is_guided(len(calls), pipeline.num_timesteps))
        return output if calls[-1] else (output[0].chunk(2)[1].repeat(2, 1, 1, 1),)

    def latents_of(loaded: LoadedModel) -> torch.Tensor:
        return sample(loaded, one, Job(), lambda _done, _total: None)

    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    with denoiser.register_forward_hook(use_prompt_only):
        expected = latents_of(model)
    assert {True, False} == set(calls)
    found = latents_of(with_interval(model))
    assert (found - expected).abs().max() < TOLERANCE
    assert (found - latents_of(model)).abs().max() > 10 * TOLERANCE


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("cancelled_after", [1, 5])
def test_members_of_a_batch_of_masked_images_get_the_latents_that_they_get_alone(
    name: str, cancelled_after: int, device: Device
) -> None:
    model = with_interval(load_built(CASES[name].build(), device))
    plans = plans_of(model, **images_of(CASES[name]), steps=STEPS)
    changed, distance = largest_differences(model, plans, cancelled_after)
    assert changed < TOLERANCE
    assert distance > 10 * TOLERANCE
