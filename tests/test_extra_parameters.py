"""Extra parameters of every family: the latents are those of the pipeline that is called with the same argument.

Every accepted parameter changes the latents, and a request without it has the latents of the pipeline's default, also
after the same prompt was encoded with the parameter.
"""

import inspect
import io
from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image
from torch import Tensor

from codec_pixels.device import Device
from codec_pixels.device_thread import DeviceThread
from codec_wire.extra import ExtraParameters
from codec_wire.latents import Modality
from codec_wire.request import parse_request
from core.diffusers_engine.batch import BatchMember
from core.diffusers_engine.clip_layers import with_text_model
from core.diffusers_engine.extra_fields import extra_fields
from core.diffusers_engine.families import FAMILIES
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.sampler import sample, sample_batch
from core.engine import Job
from core.plan import StreamPlan, plan
from tests.support.batches import TOLERANCE
from tests.support.factories import load_built
from tests.support.families import flux, qwen
from tests.support.families.cases import CASES, Case, builder_of, pipeline_class_name
from tests.support.families.images import build_flux
from tests.support.pipeline_pixels import HEIGHT, WIDTH, bundle_with_dtype, input_images
from tests.support.tiny_sd import build_pipeline
from tests.support.tiny_sdxl import build_sdxl

LONG = "a sea at dawn, seen from a cliff with a lighthouse " * 2
"""A prompt with more tokens than the `max_sequence_length` of the tests."""
STEPS, SEED = 3, 5
CHANGED: dict[str, float] = {
    "true_cfg_scale": 2.5,
    "guidance_rescale": 0.5,
    "max_sequence_length": 20,
    "clip_skip": 1,
}


@lru_cache(maxsize=1)  # the cases of a builder are neighbours
def load_pipeline(build: Callable[[], Any], device: Device) -> LoadedModel:
    return load_built(build(), device)


def has_parameters(name: str) -> bool:
    call = getattr(diffusers, name).__call__ if name in FAMILIES else None  # other cases are variants of a class
    return call is not None and bool(CHANGED.keys() & inspect.signature(call).parameters.keys())


NAMES = [name for name in sorted(CASES, key=builder_of) if has_parameters(name)]


def plan_of(model: LoadedModel, case: Case, **fields: Any) -> StreamPlan:
    video = {} if case.num_frames is None else {"modality": Modality.VIDEO, "frames": case.num_frames, "fps": 12}
    common = {"prompt": LONG, "size": (WIDTH, HEIGHT), "steps": STEPS, "seed": SEED}
    request = parse_request({**common, **video, **input_images(case), **fields})
    return plan(request, bundle_with_dtype(model, "fp32"), model.info)


def sampled(model: LoadedModel, planned: StreamPlan) -> Tensor:
    return sample(model, planned, Job(), lambda _done, _total: None)


def called(name: str, case: Case, planned: StreamPlan, arguments: dict[str, Any]) -> Tensor:
    """Return the latents of the pipeline class itself."""
    pipeline = case.build()
    pipeline_class = getattr(diffusers, pipeline_class_name(name))
    if not isinstance(pipeline, pipeline_class):
        pipeline = pipeline_class.from_pipe(pipeline)
    pipeline.set_progress_bar_config(disable=True)
    given: dict[str, Any] = {"prompt": LONG, **case.arguments, **arguments}
    for field, data in input_images(case).items():
        given[case.images[field]] = Image.open(io.BytesIO(data)).convert("RGB")
    if case.repeats_images:
        given |= {one: [given[one]] * (case.num_frames or 1) for one in case.images.values()}
    if case.has_size:
        given |= {"width": WIDTH, "height": HEIGHT}
    if case.num_frames is not None:
        given[case.frames_argument] = case.num_frames
    case.prepare(pipeline)
    generator = torch.Generator("cpu").manual_seed(SEED)
    with with_text_model(pipeline):
        output = pipeline(**given, num_inference_steps=STEPS, generator=generator, output_type="latent")
    latents = SimpleNamespace(images=output[0], frames=output[0])
    return FAMILIES[pipeline_class_name(name)].latents(pipeline, latents, planned)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_latents_equal_those_of_the_pipeline_with_the_argument(
    name: str, device: Device, device_thread: DeviceThread
) -> None:
    case = CASES[name]
    if case.requires is not None:
        pytest.importorskip(case.requires)
    model = load_pipeline(case.build, device)
    default = plan_of(model, case)
    fields = model.variant_for(default).mode.extra

    def check() -> None:
        original = sampled(model, default)
        for field in fields:
            assert field.minimum <= CHANGED[field.name] <= field.maximum
            value = int(CHANGED[field.name]) if field.type == "integer" else CHANGED[field.name]
            negative = {"negative_prompt": "fog"} if field.name == "true_cfg_scale" else {}
            planned = plan_of(model, case, extra={field.name: value}, **negative)
            changed = sampled(model, planned)
            assert torch.equal(changed, called(name, case, planned, {field.name: value, **negative})), field.name
            assert (changed - original).abs().max() > 1e-5, f"{field.name} has no effect"
        assert torch.equal(sampled(model, default), original)

    # On the device thread, because the number of CPU threads changes the result.
    device_thread.submit(check).result()


def names_of(build: Callable[[], Any], pipeline_class: str, *, has_step_cache: bool = False) -> list[str]:
    return [field.name for field in extra_fields(build(), FAMILIES[pipeline_class], has_step_cache=has_step_cache)]


def test_parameters_follow_from_the_pipeline() -> None:
    assert names_of(build_pipeline, "StableDiffusionPipeline") == ["guidance_rescale", "clip_skip"]
    assert names_of(build_flux, "FluxPipeline") == ["true_cfg_scale", "max_sequence_length"]
    assert names_of(flux.build_flux_fill, "FluxFillPipeline") == ["max_sequence_length"]
    assert names_of(qwen.build_qwen_image_edit, "QwenImageEditPipeline") == ["true_cfg_scale"]


def test_clip_skip_leaves_at_least_one_layer() -> None:
    for build, name, layers in (
        (build_pipeline, "StableDiffusionPipeline", 2),
        (build_sdxl, "StableDiffusionXLPipeline", 3),  # it always skips the last layer
    ):
        pipeline = build()
        assert pipeline.text_encoder.config.num_hidden_layers == layers
        fields = extra_fields(pipeline, FAMILIES[name], has_step_cache=False)
        assert [field.maximum for field in fields if field.name == "clip_skip"] == [1]


def test_step_cache_excludes_a_parameter_that_adds_a_second_pass() -> None:
    assert names_of(build_flux, "FluxPipeline", has_step_cache=True) == ["max_sequence_length"]
    assert "true_cfg_scale" in names_of(qwen.build_qwen_image, "QwenImagePipeline", has_step_cache=True)


def test_unet_with_an_embedding_of_the_guidance_scale_has_no_rescaling() -> None:
    pipeline = build_pipeline()
    pipeline.unet.register_to_config(time_cond_proj_dim=32)
    fields = extra_fields(pipeline, FAMILIES["StableDiffusionPipeline"], has_step_cache=False)
    assert [field.name for field in fields] == ["clip_skip"]


def test_text_encoder_is_restored_after_a_request_with_clip_skip() -> None:
    pipeline = build_pipeline()
    encoder, before = pipeline.text_encoder, set(vars(pipeline.text_encoder))
    with with_text_model(pipeline):
        assert encoder.text_model.final_layer_norm is not None
        assert "text_model" not in dict(encoder.named_modules())
    assert set(vars(encoder)) == before


@pytest.mark.slow
def test_batch_with_true_guidance_has_the_latents_of_single_generations(
    device: Device, device_thread: DeviceThread
) -> None:
    model, case = load_pipeline(build_flux, device), CASES["FluxPipeline"]
    extra = ExtraParameters(true_cfg_scale=2.5)
    plans = [
        plan_of(model, case, seed=seed, negative_prompt=negative, extra=extra.given)
        for seed, negative in ((1, "fog"), (2, "a house in the snow"))
    ]

    def run() -> tuple[list[Tensor], list[Tensor | None]]:
        alone = [sampled(model, one) for one in plans]
        return alone, sample_batch(model, [BatchMember(one, Job(), {}, lambda _done, _total: None) for one in plans])

    alone, together = device_thread.submit(run).result()
    for expected, found in zip(alone, together, strict=True):
        assert found is not None
        assert (found - expected).abs().max() < TOLERANCE
    assert (alone[0] - alone[1]).abs().max() > 100 * TOLERANCE
