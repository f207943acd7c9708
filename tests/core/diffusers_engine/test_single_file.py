"""Checkpoints that are one file: loaded as `from_single_file` of diffusers loads them."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from codec_pixels.device import Device
from codec_wire.errors import ModelLoadError
from core.diffusers_engine.loader import ModelSource, load
from tests.support.original_checkpoint import save_original_checkpoint
from tests.support.tiny_sd import build_small_pipeline


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Return a file of the tiny pipeline, next to a directory with its configuration but no weights."""
    pipeline = build_small_pipeline()
    pipeline.save_pretrained(tmp_path / "all")
    shutil.copytree(tmp_path / "all", tmp_path / "models" / "tiny", ignore=shutil.ignore_patterns("*.safetensors"))
    file = tmp_path / "models" / "tiny.safetensors"
    save_original_checkpoint(pipeline, file)
    return file


def pixels_of(pipeline: StableDiffusionPipeline) -> np.ndarray:
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(1)
    output = pipeline("a sea", num_inference_steps=3, height=64, width=64, generator=generator, output_type="np")
    return np.asarray(output.images)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_single_file_gives_the_tensors_and_pixels_of_from_single_file(
    checkpoint: Path, dtype: str, device: Device
) -> None:
    device = replace(device, dtype_name=dtype)
    expected = StableDiffusionPipeline.from_single_file(
        checkpoint, config=str(checkpoint.with_suffix("")), dtype=device.dtype
    )
    model = load(ModelSource(str(checkpoint), None, Path("nowhere")), device)
    for name in ("unet", "vae", "text_encoder"):
        tensors = getattr(model.pipeline, name).state_dict()
        for key, value in getattr(expected, name).state_dict().items():
            torch.testing.assert_close(tensors[key], value, rtol=0, atol=0)
    np.testing.assert_array_equal(pixels_of(model.pipeline), pixels_of(expected))
    assert type(model.pipeline) is StableDiffusionPipeline


@pytest.mark.slow
def test_single_file_gives_the_pixels_of_the_pipeline_it_was_made_of(checkpoint: Path, device: Device) -> None:
    model = load(ModelSource(str(checkpoint), None, Path("nowhere")), device)
    np.testing.assert_array_equal(pixels_of(model.pipeline), pixels_of(build_small_pipeline()))


def test_single_file_in_the_models_directory_is_served_under_its_name_without_suffix(
    checkpoint: Path, device: Device
) -> None:
    model = load(ModelSource("tiny.safetensors", None, checkpoint.parent), device)
    assert (model.info.name, model.info.latent_space) == ("tiny", "tiny-vae")
    assert "/" not in "".join(model.info.aliases)


def test_configuration_may_be_in_the_directory_of_the_file(checkpoint: Path, device: Device) -> None:
    inside = checkpoint.with_suffix("") / "v1.safetensors"
    checkpoint.rename(inside)
    assert load(ModelSource(str(inside), None, Path("nowhere")), device).info.name == "v1"


def test_single_file_without_configuration_names_the_repository_if_the_hub_cannot_be_used(
    checkpoint: Path, device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    shutil.rmtree(checkpoint.with_suffix(""))
    with pytest.raises(ModelLoadError) as caught:
        load(ModelSource(str(checkpoint), None, Path("nowhere")), device)
    message = str(caught.value)
    assert "offline mode is on (HF_HUB_OFFLINE)" in message
    assert "needs the configuration of stable-diffusion-v1-5/stable-diffusion-v1-5" in message
    assert message.endswith(f"{checkpoint.with_suffix('')}/")
    assert "\n" not in message


def test_variant_of_a_single_file_is_refused(checkpoint: Path, device: Device) -> None:
    with pytest.raises(ModelLoadError, match="is a single file, which has no variants"):
        load(ModelSource(str(checkpoint), None, Path("nowhere"), variant="fp16"), device)


def test_file_that_is_not_safetensors_is_refused(checkpoint: Path, device: Device) -> None:
    other = checkpoint.rename(checkpoint.with_suffix(".ckpt"))
    with pytest.raises(ModelLoadError, match=r"tiny\.ckpt is not a model: a single file must be a \.safetensors file"):
        load(ModelSource(str(other), None, Path("nowhere")), device)


def test_broken_single_file_gives_a_one_line_error(checkpoint: Path, device: Device) -> None:
    checkpoint.write_bytes(b"not weights")
    with pytest.raises(ModelLoadError, match="cannot load") as caught:
        load(ModelSource(str(checkpoint), None, Path("nowhere")), device)
    assert "\n" not in str(caught.value)
