"""The switches of fast mode on tiny pipelines: what they change, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bench.tiny_transformer import build_smooth_flux
from codec_maps.model_map import map_from_model
from codec_pixels.device import Device
from codec_wire.errors import Cancelled, InvalidSettings
from core.diffusers_engine.families import FAMILIES
from core.diffusers_engine.loader import LoadedModel, ModelSource, load
from core.diffusers_engine.sampler import sample
from core.diffusers_engine.step_cache import CACHE_DIT, STEP_CACHES
from core.engine import Job
from core.guidance_interval import GuidanceInterval
from core.plan import StreamPlan, plan
from core.probe import probe_request
from core.switches import Switches, parse_switches
from tests.support.families.cases import CASES
from tests.support.families.images import build_flux, build_pixart_sigma
from tests.support.tiny_sd import build_small_pipeline

pytestmark = pytest.mark.slow

STEPS = 10
Build = Callable[[], Any]
Load = Callable[[Build, str], LoadedModel]


@pytest.fixture
def load_with(device: Device, tmp_path: Path) -> Load:
    """Load a pipeline from a directory with the switches in a text."""

    def load_pipeline(build: Build, switches: str) -> LoadedModel:
        build().save_pretrained(tmp_path / "model")
        source = ModelSource("model", None, tmp_path, switches=parse_switches(switches), is_fast=True)
        return load(source, device)

    return load_pipeline


def plan_of(model: LoadedModel, name: str | None = None, steps: int = STEPS) -> StreamPlan:
    """Return a plan for the pipeline class `name`, by default for the first one."""
    info = model.info
    mode = next(one.mode for one in model.variants if name in (None, one.family.pipeline_class))
    bundle = map_from_model(info, model.vae_scale_factor, model.vae_class)
    side = 8 * info.size_multiple
    return plan(probe_request(info, mode.modality, "a sea", 1, mode, size=(side, side), steps=steps), bundle, info)


def latents_of(model: LoadedModel, stream_plan: StreamPlan) -> NDArray[np.float32]:
    return sample(model, stream_plan, Job(), lambda _done, _total: None).float().numpy()


@pytest.mark.parametrize(
    ("build", "switches", "message"),
    [
        (build_small_pipeline, "step_cache=first_block", r"has no step caches \(the only allowed value is none\)"),
        (build_small_pipeline, "attention_backend=native", "the attention of UNet2DConditionModel has no backends"),
        (build_small_pipeline, "offload=model", r"device is the CPU \(the only allowed value is none\)"),
        (build_flux, "channels_last", "the value on is not supported by .*, because the pipeline has no UNet"),
        (build_flux, "guidance_interval=0-0.5", "FluxPipeline cannot change its guidance between two steps"),
        (build_flux, "attention_backend=warp", r"CODEC_ATTENTION_BACKEND \(--attention-backend\): .*the value warp"),
        (build_pixart_sigma, "step_cache=taylorseer", "PixArtTransformer2DModel has no step caches"),
    ],
)
def test_switch_that_a_pipeline_cannot_have_is_refused(
    load_with: Load, build: Build, switches: str, message: str
) -> None:
    with pytest.raises(InvalidSettings, match=message):
        load_with(build, switches)


def test_default_of_fast_mode_that_a_pipeline_cannot_have_is_left_off(
    device: Device, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build_flux().save_pretrained(tmp_path / "model")
    source = ModelSource("model", None, tmp_path, switches=Switches(channels_last=True, fused_qkv=True), is_fast=True)
    model = load(source, device)
    assert model.acceleration.switches == ("fused_qkv",)
    assert "fast mode runs without channels_last, because the pipeline has no UNet" in caplog.text
    assert "FAST MODE: the pixels of model differ from those in reference mode; switches: fused_qkv" in caplog.text


def test_switches_of_loading_are_refused_or_left_off_for_the_pipeline_of_a_factory(
    device: Device, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    factory = "tests.support.tiny_sd:build_small_pipeline"
    required = ModelSource(None, factory, tmp_path, switches=parse_switches("vae_tiling"), is_fast=True)
    with pytest.raises(InvalidSettings, match="vae-tiling.*a pipeline from a factory function is not modified"):
        load(required, device)
    defaults = ModelSource(None, factory, tmp_path, switches=Switches(channels_last=True, fused_qkv=True), is_fast=True)
    assert load(defaults, device).acceleration.switches == ("fused_qkv",)
    assert (
        "fast mode runs without channels_last, because a pipeline from a factory function is not modified"
        in caplog.text
    )


def test_compilation_without_a_compiler_is_refused(load_with: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InvalidSettings, match=r"CODEC_COMPILE \(--compile\): .*no C\+\+ compiler: install g\+\+"):
        load_with(build_small_pipeline, "compile=full")


def test_switches_of_the_weights_and_the_vae_are_applied(load_with: Load) -> None:
    model = load_with(build_small_pipeline, "channels_last+fused_qkv+vae_tiling+vae_slicing")
    pipeline = model.pipeline
    assert pipeline.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert all(
        hasattr(one, "to_qkv") or hasattr(one, "to_kv")
        for name, one in pipeline.unet.named_modules()
        if name.endswith(("attn1", "attn2"))
    )
    assert (pipeline.vae.use_tiling, pipeline.vae.use_slicing) == (True, True)
    assert latents_of(model, plan_of(model)).std() > 0


@pytest.mark.parametrize(
    "name", [name for name in CASES if FAMILIES.get(name) and FAMILIES[name].guidance_inputs is not None]
)
def test_steps_outside_of_the_guidance_interval_do_half_of_the_work(name: str, load_with: Load) -> None:
    model = load_with(CASES[name].build, "guidance_interval=0-0.3/0.7-1")
    stream_plan, sizes = plan_of(model, name), []
    variant = model.variant_for(stream_plan)
    denoiser = getattr(variant.pipeline, "unet", None) or variant.pipeline.transformer

    def record_rows(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        sizes.append(len(args[0] if args else kwargs["hidden_states"]))

    with denoiser.register_forward_pre_hook(record_rows, with_kwargs=True):
        latents_of(model, stream_plan)
    steps = variant.pipeline.num_timesteps
    guided = [GuidanceInterval.parse("0-0.3/0.7-1").is_guided(step, steps) for step in range(steps)]
    assert 0 < sum(guided) < steps
    assert guided[-1]
    if FAMILIES[name].guidance_inputs:
        assert [size > min(sizes) for size in sizes] == guided
    else:  # a second call for the unconditional prediction
        assert len(sizes) == steps + sum(guided)


def test_guidance_interval_does_not_affect_a_later_request(load_with: Load) -> None:
    model = load_with(build_small_pipeline, "guidance_interval=0-0.5")
    stream_plan = plan_of(model)
    first = latents_of(model, stream_plan)
    np.testing.assert_array_equal(latents_of(model, stream_plan), first)
    reference = load_with(build_small_pipeline, "")
    assert not np.array_equal(latents_of(reference, stream_plan), first)


def test_guidance_interval_with_all_steps_gives_the_bytes_of_the_reference(load_with: Load) -> None:
    model = load_with(build_small_pipeline, "guidance_interval=0-0.999")  # of 10 steps, all
    stream_plan = plan_of(model)
    reference = load_with(build_small_pipeline, "")
    np.testing.assert_array_equal(latents_of(model, stream_plan), latents_of(reference, stream_plan))


@pytest.mark.parametrize("name", STEP_CACHES)
def test_step_cache_changes_latents_and_is_reset_before_every_generation(name: str, load_with: Load) -> None:
    if name == CACHE_DIT:
        pytest.importorskip("cache_dit")
    model = load_with(build_smooth_flux, f"step_cache={name}")
    stream_plan = plan_of(model)
    first = latents_of(model, stream_plan)
    job = Job()

    def cancel(done: int, _total: int) -> None:
        if done == STEPS // 2:
            job.cancel(Cancelled("test"))

    with pytest.raises(Cancelled):
        sample(model, stream_plan, job, cancel)
    np.testing.assert_array_equal(latents_of(model, stream_plan), first)
    shorter = plan_of(model, steps=STEPS - 1)
    latents_of(model, shorter)
    np.testing.assert_array_equal(latents_of(model, stream_plan), first)
    reference = latents_of(load_with(build_smooth_flux, ""), stream_plan)
    assert np.isfinite(first).all()
    assert not np.array_equal(first, reference)
    assert np.abs(first - reference).max() < 1


@pytest.mark.parametrize("name", ["LTXPipeline", "WanPipeline"])
@pytest.mark.parametrize("cache", STEP_CACHES)
def test_step_caches_work_with_videos_or_are_refused(name: str, cache: str, load_with: Load) -> None:
    if cache == CACHE_DIT:
        pytest.importorskip("cache_dit")
        model = load_with(CASES[name].build, f"step_cache={cache}")
        with pytest.raises(AssertionError, match="Fn_compute_blocks 8 must be less"):  # the transformers are too small
            latents_of(model, plan_of(model))
        return
    classes = STEP_CACHES[cache]
    if classes is not None and name not in classes:
        with pytest.raises(InvalidSettings, match=rf"{cache} does not work with {name} \(allowed values: none, "):
            load_with(CASES[name].build, f"step_cache={cache}")
        return
    if cache == "first_block" and name == "LTXPipeline":  # the tiny transformer has one block
        with pytest.raises(InvalidSettings, match=r"CODEC_STEP_CACHE.*the step cache first_block does not work with "):
            load_with(CASES[name].build, f"step_cache={cache}")
        return
    model = load_with(CASES[name].build, f"step_cache={cache}")
    assert np.isfinite(latents_of(model, plan_of(model))).all()
