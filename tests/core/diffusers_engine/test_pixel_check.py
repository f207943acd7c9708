"""Proof when a model is loaded: decoded latents are compared with the pixels of the model's own pipelines."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL

from codec_server.local_model import LocalModel
from codec_wire.errors import ModelLoadError, UnsupportedModality
from codec_wire.request import GenerationRequest
from core.admission import Admission
from core.lifecycle import Lifecycle
from core.pixel_checks import FILE, PixelCheck
from core.service import LatentService
from core.settings import Settings
from tests.support.families.videos import build_animatediff
from tests.support.tiny_sd import build_pipeline, build_small_pipeline

calls: list[str] = []
shift: list[float] = []


def make_counting() -> Any:
    """Return a pipeline that records the output type of each call, and whose VAE has the `shift`, if there is one."""
    pipeline = build_small_pipeline()
    base = type(pipeline)

    class Counting(base):  # type: ignore[misc, valid-type]
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            calls.append(options["output_type"])
            return super().__call__(*arguments, **options)

    pipeline.__class__ = Counting
    if shift:
        pipeline.vae.register_to_config(shift_factor=shift[0])
    return pipeline


class Brighter(AutoencoderKL):  # type: ignore[misc]
    """A VAE that needs a step which clients do not know."""

    def decode(self, *arguments: Any, **options: Any) -> Any:
        output = super().decode(*arguments, **options)
        if isinstance(output, tuple):
            return (output[0] + 0.5, *output[1:])
        output.sample = output.sample + 0.5
        return output


def make_with_other_vae() -> Any:
    pipeline = build_pipeline()
    pipeline.vae.__class__ = Brighter
    return pipeline


def make_scaled_afterwards() -> Any:
    pipeline = build_pipeline()
    base = type(pipeline)

    class Contrast(base):  # type: ignore[misc, valid-type]
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            output = super().__call__(*arguments, **options)
            if options["output_type"] != "latent":
                output.images = output.images * 0.5
            return output

    pipeline.__class__ = Contrast
    return pipeline


class Refusing(torch.nn.Module):
    """A safety checker that must not run."""

    device, dtype = torch.device("cpu"), torch.float32

    def forward(self, images: Any, clip_input: Any) -> Any:
        raise AssertionError("the safety checker must not run")


def make_with_safety_checker() -> Any:
    pipeline = build_small_pipeline()
    vars(pipeline)["safety_checker"] = Refusing()
    return pipeline


def make_that_cannot_decode() -> Any:
    pipeline = build_small_pipeline().to(dtype=torch.bfloat16)
    pipeline.vae.to(torch.float32)
    return pipeline


async def checks_of(factory: str, models_dir: Path) -> tuple[PixelCheck, ...]:
    settings = Settings(
        pipeline=factory if ":" in factory else f"{__name__}:{factory}",
        models_dir=models_dir,
        device="cpu",
        threads=1,
        calibration_images=0,
    )
    model, service = LocalModel(settings), LatentService(Lifecycle(), Admission(1, 10**10))
    try:
        await model.start_serving(service)
        return service.models.require_default().pixel_checks
    finally:
        model.free()


@pytest.mark.slow
async def test_every_pipeline_of_a_model_is_compared(tmp_path: Path) -> None:
    checks = await checks_of("tests.support.tiny_sd:build_small_pipeline", tmp_path)
    classes = ("Pipeline", "Img2ImgPipeline", "InpaintPipeline")
    assert [check.pipeline for check in checks] == [f"StableDiffusion{name}" for name in classes]
    assert all(check.max_difference is not None and check.max_difference <= check.tolerance == 1 for check in checks)
    (video,) = await checks_of(f"{build_animatediff.__module__}:build_animatediff", tmp_path)
    assert video.pipeline == "AnimateDiffPipeline"
    assert video.max_difference is not None
    assert video.max_difference <= 1


@pytest.mark.parametrize("factory", ["make_with_other_vae", "make_scaled_afterwards"])
async def test_model_whose_pixels_differ_is_refused_with_the_largest_difference(factory: str, tmp_path: Path) -> None:
    with pytest.raises(
        ModelLoadError, match=r"differ from the pixels .* by up to \d+ of 255 levels, but the maximum is 1"
    ) as caught:
        await checks_of(factory, tmp_path)
    assert ("Brighter" if factory == "make_with_other_vae" else "Contrast") in str(caught.value)
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.slow
async def test_stored_result_is_used_until_the_vae_configuration_changes(tmp_path: Path) -> None:
    calls.clear()
    shift.clear()
    first = await checks_of("make_counting", tmp_path)
    assert calls.count("np") == 1
    (file,) = tmp_path.rglob(FILE)
    calls.clear()
    assert await checks_of("make_counting", tmp_path) == first
    assert "np" not in calls
    shift.append(0.25)
    assert await checks_of("make_counting", tmp_path) == first, "Stable Diffusion 1 ignores the shift"
    assert calls.count("np") == 1
    assert len(json.loads(file.read_bytes())) == 2
    file.write_text("[{}, 3, broken")
    await checks_of("make_counting", tmp_path)
    assert calls.count("np") == 2


async def test_result_that_cannot_be_stored_does_not_prevent_serving(tmp_path: Path) -> None:
    (tmp_path / "latent-spaces").write_text("a file in place of the directory")
    checks = await checks_of("make_with_safety_checker", tmp_path)
    assert checks[0].max_difference is not None


def settings_for_failing_pipeline(models_dir: Path) -> Settings:
    factory = f"{__name__}:make_that_cannot_decode"
    return Settings(pipeline=factory, models_dir=models_dir, device="cpu", threads=1, calibration_images=4)


async def test_pipeline_that_cannot_decode_its_own_latents_serves_only_latents_and_stores_no_map(
    tmp_path: Path,
) -> None:
    model, service = (
        LocalModel(settings_for_failing_pipeline(tmp_path)),
        LatentService(Lifecycle(), Admission(1, 10**10)),
    )
    try:
        await model.start_serving(service)
        (check, *_) = service.models.require_default().pixel_checks
        assert check.max_difference is None
        assert "the pipeline cannot generate pixels" in str(check)
        request = GenerationRequest(prompt="a sea", size=(64, 64), steps=5)
        assert not service.plan(request).rendered
        with pytest.raises(
            UnsupportedModality, match="does not render .* the pipeline cannot generate pixels: "
        ) as caught:
            service.plan_rendered(request, 1)
        assert "\n" not in str(caught.value)
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    finally:
        model.free()


async def test_no_map_is_built_for_a_pipeline_that_cannot_decode_its_own_latents(tmp_path: Path) -> None:
    model = LocalModel(settings_for_failing_pipeline(tmp_path))
    try:
        with pytest.raises(ModelLoadError, match="no map can be built for .* the pipeline cannot generate pixels: "):
            await model.build_map(["a sea"], lambda _done: None, lambda _done, _total: None)
    finally:
        model.free()


@pytest.mark.slow
async def test_results_of_the_embedded_model_ship_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise AssertionError("the comparison is repeated: write the file again as docs/releasing.md describes")

    monkeypatch.setattr("core.diffusers_engine.pixel_check.check_pixels", fail)
    settings = Settings(models_dir=tmp_path, device="cpu", threads=1)
    model, service = LocalModel(settings), LatentService(Lifecycle(), Admission(1, 10**10))
    try:
        await model.start_serving(service)
        checks = service.models.require_default().pixel_checks
    finally:
        model.free()
    assert len(checks) == 4
    assert all(check.max_difference is not None and check.max_difference <= check.tolerance for check in checks)
    assert not list(tmp_path.iterdir())
