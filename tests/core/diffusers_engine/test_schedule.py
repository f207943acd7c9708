"""Plans accept exactly the step counts and strengths that the scheduler and the pipeline class of a model can run."""

import contextlib
import copy
import itertools
import logging
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion

from codec_wire.errors import InvalidRequest
from codec_wire.latents import Modality
from codec_wire.request import parse_request
from core.diffusers_engine.families import FAMILIES
from core.diffusers_engine.schedule import step_check
from core.diffusers_engine.variants import variants_of
from core.model import ModelInfo
from core.plan import StreamPlan, plan
from core.probe import sample_image
from tests.support.families.images import build_flux, build_pixart_alpha, build_sd3
from tests.support.families.videos import build_hunyuan, build_ltx
from tests.support.serving import MODEL, VIDEO_MODEL, bundle_of
from tests.support.tiny_sd import build_pipeline

STRENGTHS = (None, 0.03, 0.5, 1.0)
IMAGE = sample_image(0, 64)
NOT_FOR_STABLE_DIFFUSION = (
    "AmusedScheduler",
    "BlockRefinementScheduler",
    "CogVideoXDPMScheduler",
    "CosineDPMSolverMultistepScheduler",
    "DDPMWuerstchenScheduler",
    "DPMSolverSDEScheduler",
    "DiscreteDDIMScheduler",
    "EntropyBoundScheduler",
    "FlowMapEulerDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "FlowMatchLCMScheduler",
    "HeliosScheduler",
    "HeliosDMDScheduler",
    "KarrasVeScheduler",
    "LTXEulerAncestralRFScheduler",
    "MiniMaxH3Scheduler",
    "PiflowScheduler",
    "RFD4ProteinaScheduler",
    "RePaintScheduler",
    "SCMScheduler",
    "ScoreSdeVeScheduler",
    "UnCLIPScheduler",
    "VQDiffusionScheduler",
)
"""Schedulers that cannot be built from the configuration of the tiny pipeline, or with which it runs no step."""
ALL_SCHEDULERS = frozenset(
    name for name in dir(diffusers) if name.endswith("Scheduler") and not name.startswith("Flax")
)
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    name: {} for name in sorted(ALL_SCHEDULERS.difference(NOT_FOR_STABLE_DIFFUSION))
} | {
    "PNDMScheduler, with prk steps": {"skip_prk_steps": False},
    "LCMScheduler, 20 steps": {"original_inference_steps": 20},
}


SLOW_SCHEDULERS = frozenset({"KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler", "LMSDiscreteScheduler"})
"""Schedulers that integrate or interpolate numerically, which takes 0.1 s for 250 steps."""


def with_scheduler(pipeline: Any, name: str, **config: Any) -> Any:
    """Replace the scheduler of `pipeline` by one of the class `name` with the same configuration."""
    pipeline.scheduler = getattr(diffusers, name).from_config(pipeline.scheduler.config, **config)
    return pipeline


def info_of(pipeline: Any, model: ModelInfo = MODEL) -> ModelInfo:
    variants = tuple(variants_of(pipeline, FAMILIES[type(pipeline).__name__]))
    return replace(model, modes=tuple(variant.mode for variant in variants), accepts_steps=step_check(variants))


def planned(model: ModelInfo, **fields: object) -> StreamPlan:
    values = {"prompt": "x", "size": (64, 64), "modality": model.modalities[0]} | fields
    return plan(parse_request(values), bundle_of(model), model)


def accepted(model: ModelInfo, **fields: object) -> bool:
    try:
        planned(model, **fields)
    except InvalidRequest as error:
        assert error.field in ("steps", "strength", "image")
        return False
    return True


def runs(pipeline: Any, steps: int, strength: float | None) -> bool:
    """Run the sampling loop of `pipeline`, or of its image-to-image variant, with a UNet that predicts zeros."""
    scheduler = copy.deepcopy(pipeline.scheduler)
    latents = torch.ones(1, 4, 1, 1)
    try:
        timesteps, _ = pipeline_stable_diffusion.retrieve_timesteps(scheduler, steps, "cpu")
        if strength is None:
            latents = latents * scheduler.init_noise_sigma
        else:
            image_to_image = diffusers.StableDiffusionImg2ImgPipeline
            timesteps, _ = image_to_image.get_timesteps(SimpleNamespace(scheduler=scheduler), steps, strength, "cpu")
            latents = scheduler.add_noise(latents, torch.ones_like(latents), timesteps[:1])
        for timestep in timesteps:
            scheduler.scale_model_input(latents, timestep)
            latents = scheduler.step(torch.zeros_like(latents), timestep, latents, return_dict=False)[0]
    except Exception:
        return False
    return len(timesteps) > 0 and bool(latents.isfinite().all())


@pytest.mark.parametrize("name", NOT_FOR_STABLE_DIFFUSION)
def test_excluded_schedulers_run_no_step_of_stable_diffusion(name: str) -> None:
    with contextlib.suppress(Exception):
        pipeline = with_scheduler(build_pipeline(), name)
        assert not any(runs(pipeline, steps, None) for steps in (1, 3, 25))


@pytest.mark.filterwarnings("ignore")  # of NumPy, about the arithmetic of some schedulers
@pytest.mark.parametrize(
    "numbers_of_steps",
    [
        pytest.param((1, 3, 25), id="three numbers of steps"),
        pytest.param((*range(1, 61), 100, 250), id="all numbers of steps", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_plan_accepts_exactly_what_the_scheduler_can_run(configuration: str, numbers_of_steps: tuple[int, ...]) -> None:
    name, config = configuration.partition(",")[0], CONFIGURATIONS[configuration]
    pipeline = with_scheduler(build_pipeline(), name, **config)
    model = info_of(pipeline)
    if name in SLOW_SCHEDULERS:
        numbers_of_steps = tuple(steps for steps in numbers_of_steps if steps <= 25)
    for steps, strength in itertools.product(numbers_of_steps, STRENGTHS):
        fields = {} if strength is None else {"strength": strength, "image": IMAGE}
        assert accepted(model, steps=steps, **fields) == runs(pipeline, steps, strength), (steps, strength)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # as above
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_accepted_numbers_of_steps_have_no_gap(configuration: str) -> None:
    name, config = configuration.partition(",")[0], CONFIGURATIONS[configuration]
    model = info_of(with_scheduler(build_pipeline(), name, **config))
    assert model.accepts_steps is not None
    for mode in model.modes:
        numbers = range(1, 61) if name in SLOW_SCHEDULERS else range(1, 251)
        strength = 1.0 if mode.strength else None
        accepted_numbers = [steps for steps in numbers if model.accepts_steps(mode, steps, strength)]
        assert accepted_numbers == [*range(accepted_numbers[0], accepted_numbers[-1] + 1)]


@pytest.mark.parametrize(
    ("name", "config", "steps", "message"),
    [
        ("LCMScheduler", {}, 51, "from 1 to 50 for the scheduler of tiny-sd, got 51"),
        ("TCDScheduler", {"original_inference_steps": 20}, 21, "from 1 to 20 for the scheduler of tiny-sd, got 21"),
        ("PNDMScheduler", {"skip_prk_steps": False}, 3, "from 4 to 250 for the scheduler of tiny-sd, got 3"),
    ],
)
def test_refused_step_count_names_the_accepted_range(
    name: str, config: dict[str, Any], steps: int, message: str
) -> None:
    model = info_of(with_scheduler(build_pipeline(), name, **config))
    with pytest.raises(InvalidRequest, match=message) as caught:
        planned(model, steps=steps)
    assert caught.value.field == "steps"
    with pytest.raises(InvalidRequest, match=message):
        planned(model, steps=steps, image=IMAGE, strength=0.5)


def test_strength_that_leaves_no_step_is_rejected() -> None:
    model = info_of(build_pipeline())
    with pytest.raises(InvalidRequest, match=r"1/steps = 0\.2, got 0\.1; with a smaller strength") as caught:
        planned(model, steps=5, strength=0.1, image=IMAGE)
    assert caught.value.field == "strength"


def test_image_mode_is_not_offered_if_the_scheduler_cannot_add_noise(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model = info_of(with_scheduler(build_pipeline(), "IPNDMScheduler"))
    assert [mode.image for mode in model.modes] == [False]
    assert "IPNDMScheduler" in caplog.text
    with pytest.raises(InvalidRequest, match="image: is not supported"):
        planned(model, image=IMAGE)


def run_flow_pipeline(pipeline: Any, steps: int, strength: float | None, **arguments: Any) -> bool:
    """Call the pipeline itself, or its image-to-image variant if there is a strength."""
    if strength is not None:
        related = next(iter(FAMILIES[type(pipeline).__name__].related))
        image = torch.zeros(1, 3, 64, 64)
        pipeline = getattr(diffusers, related)(**pipeline.components)
        arguments |= {"image": image, "strength": strength}
    pipeline.set_progress_bar_config(disable=True)
    with contextlib.suppress(ValueError, RuntimeError, IndexError):
        output = pipeline("x", width=64, height=64, num_inference_steps=steps, output_type="latent", **arguments)
        return bool(torch.as_tensor(output[0]).isfinite().all())
    return False


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("build", [build_sd3, build_flux])
def test_plan_accepts_what_flow_matching_image_pipelines_run(build: Callable[[], Any], dynamic: bool) -> None:
    pipeline = with_scheduler(build(), "FlowMatchEulerDiscreteScheduler", use_dynamic_shifting=dynamic)
    model = info_of(pipeline)
    for steps, strength in ((1, None), (3, None), (5, 0.1), (1, 0.1), (2, 1.0)):
        fields = {} if strength is None else {"strength": strength, "image": IMAGE}
        assert accepted(model, steps=steps, **fields) == run_flow_pipeline(pipeline, steps, strength), (steps, strength)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("shift_terminal", [None, 0.1])
def test_one_step_is_refused_if_ltx_stretches_its_schedule(shift_terminal: float | None) -> None:
    pipeline = with_scheduler(build_ltx(), "FlowMatchEulerDiscreteScheduler", shift_terminal=shift_terminal)
    model = info_of(pipeline, replace(VIDEO_MODEL, frame_multiple=8))
    for steps in (1, 2):
        runs_itself = run_flow_pipeline(pipeline, steps, None, num_frames=9)
        assert accepted(model, steps=steps, frames=9) == runs_itself, steps
        assert runs_itself == (steps == 2 or shift_terminal is None)


@pytest.mark.parametrize("scheduler", ["DPMSolverMultistepScheduler", "LCMScheduler"])
def test_one_step_of_pixart_alpha_needs_a_scheduler_that_predicts_the_original_sample(scheduler: str) -> None:
    pipeline = with_scheduler(build_pixart_alpha(), scheduler)
    for steps in (1, 2):
        runs_itself = run_flow_pipeline(pipeline, steps, None, use_resolution_binning=False, clean_caption=False)
        assert accepted(info_of(pipeline), steps=steps) == runs_itself == (steps == 2 or scheduler == "LCMScheduler")


def test_hunyuan_video_runs_one_step() -> None:
    model = info_of(build_hunyuan(), replace(VIDEO_MODEL, frame_multiple=4))
    assert accepted(model, steps=1, frames=5)


def test_set_timesteps_is_asked_on_a_copy() -> None:
    pipeline = build_pipeline()
    model = info_of(pipeline)
    pipeline.scheduler.set_timesteps(7)
    planned(model, steps=3, modality=Modality.IMAGE)
    assert len(pipeline.scheduler.timesteps) == 7
