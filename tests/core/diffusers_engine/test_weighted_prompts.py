"""Weighted prompts in the pipelines of Stable Diffusion: their embeddings, limits, cache and batches."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from compel import CompelForSD, CompelForSDXL
from torch import Tensor

from codec_pixels.device import Device
from codec_pixels.device_thread import DeviceThread
from codec_wire.errors import InvalidRequest
from core.diffusers_engine.batch import BatchMember, batch_key
from core.diffusers_engine.families import FAMILIES as PIPELINE_FAMILIES
from core.diffusers_engine.input_images import decode_inputs
from core.diffusers_engine.loader import LoadedModel, ModelSource, load
from core.diffusers_engine.prompt_cache import PromptCache
from core.diffusers_engine.sampler import sample, sample_batch
from core.diffusers_engine.variants import PipelineVariant
from core.diffusers_engine.weighted_prompts import (
    EMBEDDING_ARGUMENTS,
    MAX_CHUNKS,
    MAX_ENCODER_RUNS,
    _encode,
    check_prompts,
    embedding_arguments,
    prompt_syntaxes,
)
from core.engine import Job
from core.plan import StreamPlan, plan
from core.probe import probe_request
from tests.support.batches import TOLERANCE
from tests.support.factories import load_from_factory
from tests.support.families.cases import CASES, pipeline_class_name
from tests.support.loras import UNET_AND_TEXT, load_with_loras, write_lora
from tests.support.pipeline_pixels import bundle_with_dtype
from tests.support.tiny_sd import TEXT_WIDTH, build_pipeline
from tests.support.tiny_sdxl import build_sdxl

LONG = "a (small red house)1.3 in the snow, seen from above--. " * 3
FAMILIES = [
    name
    for name in CASES
    if pipeline_class_name(name).startswith(("StableDiffusion", "LatentConsistency", "AnimateDiff"))
    and not pipeline_class_name(name).startswith("StableDiffusion3")
]


def plan_of(model: LoadedModel, prompt: str, *, seed: int = 5, **fields: Any) -> StreamPlan:
    mode = next(mode for mode in model.info.modes if mode.inputs == model.variants[0].mode.inputs)
    fields = {"steps": 3, "size": (64, 64), **fields}
    request = probe_request(model.info, mode.modality, prompt, seed, mode, **fields)
    return plan(request, bundle_with_dtype(model, "fp32"), model.info)


def _negatives(*texts: str | None) -> list[dict[str, Any]]:
    return [{"negative_prompt": text} for text in texts]


def latents_of(thread: DeviceThread, model: LoadedModel, one: StreamPlan) -> Tensor:
    return thread.submit(sample, model, one, Job(), lambda _done, _total: None, decode_inputs(one)).result()


def test_stable_diffusion_gets_the_embeddings_of_compel(tiny_model: LoadedModel) -> None:
    found = embedding_arguments(
        tiny_model.variants[0], plan_of(tiny_model, LONG, prompt_syntax="compel", negative_prompt="fog+"), PromptCache()
    )
    expected = CompelForSD(build_pipeline())(LONG, negative_prompt="fog+")
    assert found["prompt_embeds"].shape[1] == 3 * 77
    assert found.keys() == {"prompt_embeds", "negative_prompt_embeds"}
    assert torch.equal(found["prompt_embeds"], expected.embeds)
    assert torch.equal(found["negative_prompt_embeds"], expected.negative_embeds)


@pytest.mark.parametrize("negative_prompt", [None, "", LONG + LONG])
def test_stable_diffusion_xl_gets_the_embeddings_of_compel(device: Device, negative_prompt: str | None) -> None:
    model = load_from_factory("tests.support.tiny_sdxl:build_sdxl", device)
    one = plan_of(model, LONG, prompt_syntax="compel", negative_prompt=negative_prompt)
    found = embedding_arguments(model.variants[0], one, PromptCache())
    expected = CompelForSDXL(build_sdxl())(LONG, negative_prompt=negative_prompt)
    values = (expected.embeds, expected.negative_embeds, expected.pooled_embeds, expected.negative_pooled_embeds)
    assert (len(found), found["prompt_embeds"].shape[1] % 77) == (2 if negative_prompt is None else 4, 0)
    for name, value in zip(EMBEDDING_ARGUMENTS, values, strict=True):
        assert name not in found if value is None else torch.equal(found[name], value), name


def test_embeddings_without_a_negative_prompt_are_those_of_an_empty_text(tiny_model: LoadedModel) -> None:
    without, empty = (
        embedding_arguments(
            tiny_model.variants[0], plan_of(tiny_model, LONG, prompt_syntax="compel", **fields), PromptCache()
        )
        for fields in _negatives(None, "")
    )
    assert all(torch.equal(without[name], empty[name]) for name in empty)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_samples_weighted_and_long_prompts(
    name: str, tmp_path: Path, device: Device, device_thread: DeviceThread
) -> None:
    case = CASES[name]
    factory = f"{case.build.__module__}:{case.build.__qualname__}"
    model = load(ModelSource(None, factory, tmp_path), device)
    assert model.info.prompt_syntaxes == ("plain", "compel")
    wanted = pipeline_class_name(name)
    model = replace(
        model, variants=tuple(one for one in model.variants if one.family.pipeline_class == wanted) + model.variants
    )
    has_negative = model.variants[0].mode.negative_prompt
    for fields in _negatives(None, "fog")[: 1 + has_negative]:
        plain = latents_of(device_thread, model, plan_of(model, "a sea at dawn", **fields))
        # Without weights, compel computes the embeddings that the pipeline computes.
        same = latents_of(device_thread, model, plan_of(model, "a sea at dawn", prompt_syntax="compel", **fields))
        assert torch.equal(same, plain)
        for prompt in ("a (sea)1.4 at dawn", LONG):
            other = latents_of(device_thread, model, plan_of(model, prompt, prompt_syntax="compel", **fields))
            assert other.isfinite().all()
            assert not torch.equal(other, plain)


def test_models_with_other_text_encoders_support_only_plain_prompts(device: Device) -> None:
    for factory in ("families.images:build_sd3", "families.images:build_flux"):
        info = load_from_factory(f"tests.support.{factory}", device).info
        assert info.prompt_syntaxes == ("plain",)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, device: Device) -> None:
    monkeypatch.setitem(sys.modules, "compel", None)  # as if it were not installed
    model = load_from_factory("tests.support.tiny_sd:build_pipeline", device)
    with pytest.raises(InvalidRequest, match=r"must be plain for .*, got compel. .*the extra `weighting`"):
        plan_of(model, "a sea", prompt_syntax="compel")


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("prompt", "a" * 75 * MAX_CHUNKS + "b", f"must have at most {MAX_CHUNKS} chunks of 77 tokens, got 9"),
        ("negative_prompt", "a." * 4000, f"must have at most {MAX_CHUNKS} chunks of 77 tokens, got "),
        ("prompt", "(a)0.5 b " * 64, f"must need at most {MAX_ENCODER_RUNS} runs of the text encoder, got "),
        ("prompt", "(" + ", ".join(['"a"'] * 9) + ").and()", f"must have at most {MAX_CHUNKS} chunks"),
        ("prompt", '("")0.5 a', "must not contain an empty text with a weight of less than 1"),
    ],
)
def test_prompt_that_is_too_long_is_refused(tiny_model: LoadedModel, field: str, text: str, message: str) -> None:
    fields = {"prompt": "a sea", field: text}
    one = plan_of(tiny_model, fields["prompt"], prompt_syntax="compel", negative_prompt=fields.get("negative_prompt"))
    with pytest.raises(InvalidRequest, match=f"^{field}: {message}"):
        embedding_arguments(tiny_model.variants[0], one, PromptCache())


def test_longest_prompt_is_not_truncated(tiny_model: LoadedModel) -> None:
    one = plan_of(tiny_model, "a" * 75 * MAX_CHUNKS, prompt_syntax="compel")
    found = embedding_arguments(tiny_model.variants[0], one, PromptCache())
    assert found["prompt_embeds"].shape[1] == found["negative_prompt_embeds"].shape[1] == 77 * MAX_CHUNKS


def test_videos_by_free_noise_have_plain_prompts(device: Device, tmp_path: Path) -> None:
    model = load(ModelSource(None, "tests.support.families.videos:build_animatediff", tmp_path), device)
    limit = model.pipeline.motion_adapter.config.motion_max_seq_length
    one = plan_of(model, "a sea", prompt_syntax="compel")
    check_prompts(model.variants[0], replace(one, num_frames=limit))
    with pytest.raises(InvalidRequest, match=f"^prompt_syntax: must be plain for videos .* more than {limit} frames"):
        check_prompts(model.variants[0], replace(one, num_frames=limit + 1))


def test_cache_distinguishes_syntaxes_and_prompts(device: Device, device_thread: DeviceThread) -> None:
    model = load_from_factory("tests.support.tiny_sd:build_pipeline", device)
    prompts = ("a (sea)1.4", "a (sea)1.5")
    plans = [plan_of(model, text, prompt_syntax=syntax) for text in prompts for syntax in ("compel", "plain")]
    found = [latents_of(device_thread, model, one) for one in plans]
    assert len({latents.numpy().tobytes() for latents in found}) == len(plans)
    assert model.prompts.hits == 0
    assert all(torch.equal(latents_of(device_thread, model, one), old) for one, old in zip(plans, found, strict=True))
    assert model.prompts.hits == len(plans)


def test_only_jobs_with_equal_weighted_prompts_are_batched(tiny_model: LoadedModel) -> None:
    keys = [
        batch_key(plan_of(tiny_model, prompt, seed=seed, prompt_syntax=syntax))
        for prompt, seed, syntax in (
            ("a sea", 1, "compel"),
            ("a sea", 2, "compel"),
            ("a sea", 1, None),
            (LONG, 1, "compel"),
            ("a cat", 1, "plain"),
        )
    ]
    assert keys[0] == keys[1]
    assert keys[2] == keys[4]
    assert len(set(keys)) == 3


def test_batch_of_one_weighted_prompt_has_the_latents_of_single_generations(
    tiny_model: LoadedModel, device_thread: DeviceThread
) -> None:
    plans = [plan_of(tiny_model, LONG, seed=seed, prompt_syntax="compel") for seed in (1, 2)]
    alone = [latents_of(device_thread, tiny_model, one) for one in plans]
    members = [BatchMember(one, Job(), {}, lambda _done, _total: None) for one in plans]
    together = device_thread.submit(sample_batch, tiny_model, members).result()
    for found, expected in zip(together, alone, strict=True):
        assert found is not None
        assert (found - expected).abs().max() < TOLERANCE
    assert (alone[0] - alone[1]).abs().max() > 100 * TOLERANCE


def test_textual_inversion_of_several_vectors_is_read() -> None:
    pipeline = build_pipeline()
    torch.manual_seed(2)
    pipeline.load_textual_inversion(torch.randn(3, TEXT_WIDTH), token="<boat>")
    variant = PipelineVariant(pipeline, PIPELINE_FAMILIES["StableDiffusionPipeline"])
    (found, _) = _encode(pipeline, {"prompt": "<boat>", "negative_prompt": ""})[:2]
    plain, _ = pipeline.encode_prompt("<boat>", "cpu", 1, False)
    assert prompt_syntaxes([variant]) == ("plain", "compel")
    assert found is not None
    assert torch.equal(found, plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("build", [build_pipeline, build_sdxl])
def test_prompt_without_weights_has_the_embeddings_of_the_pipeline(
    build: Callable[[], Any], dtype: torch.dtype
) -> None:
    pipeline = build().to(dtype)
    plain = pipeline.encode_prompt(
        "a sea", device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True, negative_prompt="fog"
    )
    found = _encode(pipeline, {"prompt": "a sea", "negative_prompt": "fog"})
    for one, expected in zip(found, plain, strict=False):
        assert one is not None
        assert torch.equal(one, expected)


def test_loras_of_a_request_change_the_embeddings(tmp_path: Path, device: Device, device_thread: DeviceThread) -> None:
    file = write_lora(tmp_path, "ink", seed=1, targets=UNET_AND_TEXT)
    model = load_with_loras(tmp_path, device)
    loras: dict[str, Any] = {"loras": ({"name": "ink", "scale": 0.5},)}

    def expected() -> Tensor:
        pipeline = build_pipeline()
        pipeline.set_progress_bar_config(disable=True)
        pipeline.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name="ink")
        pipeline.set_adapters(["ink"], [0.5])
        found = CompelForSD(pipeline)(LONG, negative_prompt="")
        output = pipeline(
            prompt_embeds=found.embeds,
            negative_prompt_embeds=found.negative_embeds,
            width=64,
            height=64,
            num_inference_steps=3,
            generator=torch.Generator().manual_seed(5),
            output_type="latent",
        )
        images: Tensor = output.images
        return images

    plans = [plan_of(model, LONG, prompt_syntax="compel", **fields) for fields in (loras, {}, loras)]
    with_lora, without, again = (latents_of(device_thread, model, one) for one in plans)
    assert torch.equal(with_lora, device_thread.submit(expected).result())
    assert torch.equal(with_lora, again)
    assert not torch.equal(with_lora, without)
