"""Every request field that a model accepts changes its latents. A field without an effect is refused by the plan."""

import io
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
import torch
from PIL import Image

from codec_pixels.device import Device
from codec_wire.errors import InvalidRequest
from codec_wire.latents import Modality
from codec_wire.request import parse_request
from core.diffusers_engine.families import FAMILIES
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.sampler import sample
from core.engine import Job
from core.model import GenerationMode
from core.plan import StreamPlan, plan
from core.probe import sample_image, sample_mask
from tests.support.factories import load_built
from tests.support.fake_engine import FakeEngine
from tests.support.families import flux, newer_images, newer_videos, qwen
from tests.support.families.cases import CASES, Case, builder_of, pipeline_class_name
from tests.support.families.images import build_flux
from tests.support.http_requests import IMAGES
from tests.support.pipeline_pixels import bundle_with_dtype
from tests.support.serving import MODEL, run_http_gateway, run_servers
from tests.support.tiny_sd import build_pipeline
from tests.support.tiny_sdxl import build_sdxl

SIDE = 64
NEGATIVE = {"negative_prompt": "fog"}
OWN_GUIDANCE = ("HunyuanImagePipeline", "HunyuanVideo15Pipeline", "HunyuanVideo15ImageToVideoPipeline")
"""Classes whose component `guider` contains the scale of the guidance."""


@lru_cache(maxsize=1)  # the cases of a builder are neighbours
def load_pipeline(build: Callable[[], Any], device: Device) -> LoadedModel:
    return load_built(build(), device)


def white_mask() -> bytes:
    file = io.BytesIO()
    Image.new("L", (SIDE, SIDE), 255).save(file, "PNG")
    return file.getvalue()


NAMES = sorted(CASES, key=builder_of)


def fields_of(name: str) -> dict[str, Any]:
    """Return the fields of the request with which the others are compared."""
    images = {"image": sample_image(0, SIDE), "control_image": sample_image(1, SIDE), "mask": sample_mask(SIDE)}
    case = CASES[name]
    video = {} if case.num_frames is None else {"modality": Modality.VIDEO, "frames": case.num_frames, "fps": 12}
    # With fewer steps, the strength 0.8 replaces the input image by noise.
    steps = 5 if FAMILIES[pipeline_class_name(name)].mode.strength else 2
    common = {"prompt": "a sea", "size": (SIDE, SIDE), "steps": steps, "seed": 5}
    return {**common, **video, **{field: images[field] for field in case.images}}


def changes_of(case: Case) -> dict[str, dict[str, Any]]:
    """Return other values of the fields, by field."""
    changes: dict[str, dict[str, Any]] = {
        "prompt": {"prompt": "a mountain"},
        "seed": {"seed": 6},
        "negative_prompt": NEGATIVE,
        "guidance_scale": {"guidance_scale": 1.5},
        "strength": {"strength": 0.5},
        "image": {"image": sample_image(7, SIDE)},
        "control_image": {"control_image": sample_image(8, SIDE)},
        "mask": {"mask": white_mask()},
    }
    images = ("image", "control_image", "mask")
    return {field: change for field, change in changes.items() if field in case.images or field not in images}


def plan_of(model: LoadedModel, fields: dict[str, Any]) -> StreamPlan:
    return plan(parse_request(fields), bundle_with_dtype(model, "fp32"), model.info)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_accepted_field_changes_the_latents(name: str, device: Device) -> None:
    case, family = CASES[name], FAMILIES[pipeline_class_name(name)]
    if case.requires is not None:
        pytest.importorskip(case.requires)
    model = load_pipeline(case.build, device)
    fields = fields_of(name)

    def latents_of(changes: dict[str, Any]) -> torch.Tensor:
        return sample(model, plan_of(model, fields | changes), Job(), lambda _done, _total: None)

    without_effect, refused = set(), set()
    original = latents_of({})
    for field, changes in changes_of(case).items():
        try:
            changed = latents_of(changes)
        except InvalidRequest as error:
            assert error.field == field
            if "without `negative_prompt`" not in str(error):
                refused.add(field)
                continue
            changed = latents_of(changes | NEGATIVE)
        if (changed - original).abs().max() < 1e-5:
            without_effect.add(field)
    assert without_effect == (set() if case.has_prompt else {"prompt"})
    expected = {"strength"} if not family.mode.strength else set()
    is_distilled = name.endswith(", distilled")
    if not family.mode.negative_prompt or is_distilled:
        expected.add("negative_prompt")
    if family.pipeline_class in OWN_GUIDANCE and not is_distilled:
        expected.add("guidance_scale")
    assert refused == expected


def without_guidance_embedding(build: Callable[[], Any]) -> Any:
    pipeline = build()
    pipeline.transformer = newer_images.changed(pipeline.transformer, guidance_embeds=False)
    return pipeline


def with_guidance_embedding(build: Callable[[], Any]) -> Any:
    pipeline = build()
    pipeline.unet = newer_images.changed(pipeline.unet, time_cond_proj_dim=32)
    return pipeline


def distilled_klein() -> Any:
    pipeline = flux.build_flux2_klein()
    pipeline.register_to_config(is_distilled=True)
    return pipeline


def hunyuan_15_without_guidance() -> Any:
    pipeline = newer_videos.build_hunyuan_15()
    pipeline.guider = type(pipeline.guider)(enabled=False)
    return pipeline


@pytest.mark.parametrize(
    ("build", "field"),
    [
        (lambda: without_guidance_embedding(build_flux), "guidance_scale"),
        (lambda: without_guidance_embedding(flux.build_flux_fill), "guidance_scale"),
        (lambda: without_guidance_embedding(flux.build_flux2), "guidance_scale"),
        (distilled_klein, "guidance_scale"),
        (lambda: with_guidance_embedding(build_pipeline), "negative_prompt"),
        (lambda: with_guidance_embedding(build_sdxl), "negative_prompt"),
        (newer_images.build_distilled_hunyuan_image, "negative_prompt"),
        (hunyuan_15_without_guidance, "negative_prompt"),
    ],
    ids=["flux", "flux-fill", "flux2", "klein", "sd", "sdxl", "hunyuan-image", "hunyuan-video-1.5"],
)
def test_distilled_model_refuses_a_field_without_effect(build: Callable[[], Any], field: str, device: Device) -> None:
    model = load_pipeline(build, device)
    (mode, *_) = model.info.modes
    images = {name: sample_image(0, SIDE) for name in mode.inputs}
    video = {"modality": Modality.VIDEO, "frames": 5} if mode.modality is Modality.VIDEO else {}
    fields = {"prompt": "a sea", "size": (SIDE, SIDE), "steps": 2, **images, **video}
    plan_of(model, fields)
    value = 2.0 if field == "guidance_scale" else "fog"
    with pytest.raises(InvalidRequest, match=f"^{field}: is not supported by "):
        plan_of(model, fields | {field: value})


def test_guidance_scale_without_the_negative_prompt_that_it_needs_is_refused(device: Device) -> None:
    model = load_pipeline(qwen.build_qwen_image, device)
    fields = {"prompt": "a sea", "size": (SIDE, SIDE), "steps": 2, "guidance_scale": 3.0}
    with pytest.raises(InvalidRequest, match="^guidance_scale: has no effect on .* without `negative_prompt`; "):
        plan_of(model, fields)
    assert plan_of(model, fields | {"negative_prompt": " "}).guidance_scale == 3


async def test_gateway_returns_the_refusal_of_its_upstream_server() -> None:
    mode = GenerationMode(Modality.IMAGE, guidance_scale=False)
    async with (
        run_servers(FakeEngine(free_running=True), replace(MODEL, modes=(mode,))) as servers,
        run_http_gateway(servers.grpc_address) as (_, gateway),
    ):
        for http in (servers.http, gateway):
            fields = {"prompt": "a sea", "size": f"{SIDE}x{SIDE}", "steps": 2, "stream_format": "msgpack"}
            assert (await http.post(IMAGES, json=fields)).status == 200
            response = await http.post(IMAGES, json=fields | {"guidance_scale": 2})
            error = (await response.json())["error"]
            assert (response.status, error["param"]) == (400, "guidance_scale")
            assert "which has no adjustable guidance" in error["message"]


@pytest.mark.parametrize(
    ("build", "allowed"), [(newer_images.build_lcm, ("lcm",)), (newer_videos.build_ltx_condition, ("flow-euler",))]
)
def test_only_schedulers_with_the_arguments_of_the_class_can_be_selected(
    build: Callable[[], Any], allowed: tuple[str, ...], device: Device
) -> None:
    assert load_pipeline(build, device).info.schedulers == allowed
