"""Variants of a model's weights: chosen as `from_pretrained(variant=...)` loads them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline, MotionAdapter

from codec_pixels.device import Device
from codec_wire.errors import InvalidSettings, ModelLoadError
from codec_wire.latents import Modality
from core.diffusers_engine.loader import ModelSource, load
from core.diffusers_engine.precision import stored_dtype
from core.diffusers_engine.sources import model_sources
from core.diffusers_engine.weight_variants import choose_variant, variants_of_files
from core.settings import Settings
from tests.support.dtypes import dtypes_of
from tests.support.families.images import build_flux
from tests.support.tiny_sd import build_small_pipeline

MOTION_ADAPTER_OPTIONS = {
    "block_out_channels": (16, 32),
    "motion_layers_per_block": 1,
    "motion_norm_num_groups": 8,
    "motion_num_attention_heads": 2,
}


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("model.fp16.safetensors", "fp16"),
        ("diffusion_pytorch_model.non_ema.safetensors", "non_ema"),
        ("model.fp16-00001-of-00002.safetensors", "fp16"),
        ("diffusion_pytorch_model-00001-of-00002.fp16.safetensors", "fp16"),
        ("diffusion_pytorch_model-00001-of-00002.safetensors", None),
        ("model.safetensors", None),
    ],
)
def test_variant_is_read_from_the_name_of_a_file(name: str, variant: str | None) -> None:
    assert variants_of_files([name, "config.json", "model.safetensors.index.json"], allow_pickle=False) == {variant}


def test_pickled_weights_count_only_if_they_are_allowed() -> None:
    names = ["model.fp16.safetensors", "pytorch_model.bin"]
    assert variants_of_files(names, allow_pickle=False) == {"fp16"}
    assert variants_of_files(names, allow_pickle=True) == {"fp16", None}


def choose(*paths: str, requested: str | None = None) -> str | None:
    return choose_variant("a/b", paths, {"unet", "vae"}, requested, allow_pickle=False)


UNET, VAE = "unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model"


def test_default_weights_are_preferred_and_the_only_variant_is_used_without_them() -> None:
    default = (f"{UNET}.safetensors", f"{VAE}.safetensors")
    assert choose(*default, f"{UNET}.fp16.safetensors") is None
    assert choose(*default, f"{UNET}.fp16.safetensors", requested="fp16") == "fp16"
    assert choose(f"{UNET}.fp16.safetensors", f"{VAE}.safetensors") == "fp16"
    assert choose(f"{UNET}.fp16.safetensors", f"{UNET}.bf16.safetensors", f"{VAE}.bf16.safetensors") == "bf16"
    assert choose("unet/config.json") is None
    assert choose(*default, "safety_checker/model.fp16.safetensors") is None


def test_several_variants_without_default_weights_are_an_error_that_names_them() -> None:
    with pytest.raises(
        ModelLoadError, match=r"a/b has no default weights, only the variants bf16, fp16; choose one with --variant"
    ):
        choose(f"{UNET}.fp16.safetensors", f"{UNET}.bf16.safetensors")


def test_variant_that_does_not_exist_is_an_error_that_names_the_variants() -> None:
    with pytest.raises(
        ModelLoadError, match=r"a/b has no weights of the variant 'fp' \(--variant\): the variants are bf16, fp16$"
    ):
        choose(f"{UNET}.fp16.safetensors", f"{VAE}.bf16.safetensors", requested="fp")
    with pytest.raises(ModelLoadError, match=r"the model has no variants; remove --variant"):
        choose(f"{UNET}.safetensors", requested="fp16")


@pytest.mark.parametrize(("requested", "dtype"), [(None, "fp32"), ("bf16", "fp16")])
def test_model_with_one_variant_is_loaded_as_from_pretrained_loads_it(
    requested: str | None, dtype: str, tmp_path: Path, device: Device
) -> None:
    pipeline = build_flux().to(dtype=torch.bfloat16)
    pipeline.save_pretrained(tmp_path / "model", variant="bf16")
    device = replace(device, dtype_name=dtype)
    expected = DiffusionPipeline.from_pretrained(tmp_path / "model", variant="bf16", dtype=device.dtype)
    model = load(ModelSource("model", None, tmp_path, variant=requested), device)
    assert dtypes_of(model.pipeline) == dtypes_of(expected)
    tensors = model.pipeline.transformer.state_dict()
    for key, value in expected.transformer.state_dict().items():
        torch.testing.assert_close(tensors[key], value, rtol=0, atol=0)
    assert stored_dtype(tmp_path / "model", "bf16") == "bf16"


def test_requested_variant_is_loaded_and_decides_the_stored_dtype(tmp_path: Path, device: Device) -> None:
    build_small_pipeline().save_pretrained(tmp_path / "model")
    other = build_small_pipeline()
    torch.nn.init.zeros_(other.unet.conv_in.bias)
    other.to(dtype=torch.float16).save_pretrained(tmp_path / "model", variant="fp16")
    default = load(ModelSource("model", None, tmp_path), device).pipeline
    variant = load(ModelSource("model", None, tmp_path, variant="fp16"), device).pipeline
    assert default.unet.conv_in.bias.any()
    assert not variant.unet.conv_in.bias.any()
    assert [stored_dtype(tmp_path / "model", name) for name in (None, "fp16")] == ["fp32", "fp16"]
    with pytest.raises(ModelLoadError, match=r"no weights of the variant 'ema' \(--variant\): the variants are fp16$"):
        load(ModelSource("model", None, tmp_path, variant="ema"), device)


@pytest.mark.slow
def test_motion_adapter_with_one_variant_is_loaded(tmp_path: Path, device: Device) -> None:
    build_small_pipeline().save_pretrained(tmp_path / "model")
    MotionAdapter(**MOTION_ADAPTER_OPTIONS).save_pretrained(tmp_path / "motion", variant="fp16")
    model = load(ModelSource("model", None, tmp_path, motion_adapter=tmp_path / "motion"), device)
    assert Modality.VIDEO in model.info.modalities


def test_variant_applies_to_the_default_model_and_not_to_a_factory() -> None:
    assert [source.variant for source in model_sources(Settings(model="a/b", video_model="c/d", variant="fp16"))] == [
        "fp16",
        None,
    ]
    with pytest.raises(InvalidSettings, match=r"CODEC_VARIANT \(--variant\) cannot be used with --pipeline"):
        model_sources(Settings(pipeline="a:b", variant="fp16"))
