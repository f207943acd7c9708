"""LoRA files that fit a model only in part, or not at all, are refused instead of applied without a message."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from codec_wire.errors import InvalidSettings, ModelLoadError
from core.diffusers_engine.loras import LoraSource, apply_loras, parse_loras
from tests.support.families import images
from tests.support.tiny_sd import build_pipeline
from tests.support.tiny_sdxl import build_sdxl

FILE = "pytorch_lora_weights.safetensors"
STRAY = "unet.down_blocks.7.attentions.0.transformer_blocks.0.attn1.to_q"
STRAY_KEYS = {f"{STRAY}.lora_A.weight": torch.ones(2, 16), f"{STRAY}.lora_B.weight": torch.ones(16, 2)}


def weights_of(component: Any, targets: list[str]) -> dict[str, Any]:
    component.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=targets, init_lora_weights=False))
    layers: dict[str, Any] = get_peft_model_state_dict(component)
    return layers


def unet_and_text_encoder_lora(folder: Path) -> Path:
    """Write a LoRA for the UNet and the text encoder of tiny-sd in diffusers' format; return the file."""
    pipeline = build_pipeline()
    torch.manual_seed(1)
    pipeline.save_lora_weights(
        folder,
        unet_lora_layers=weights_of(pipeline.unet, ["to_q", "to_v"]),
        text_encoder_lora_layers=weights_of(pipeline.text_encoder, ["q_proj", "v_proj"]),
    )
    return folder / FILE


def apply(pipeline: Any, file: Path, *, allow_partial: bool = False) -> None:
    apply_loras(pipeline, (LoraSource(str(file), 1.0),), allow_pickle=False, allow_partial=allow_partial)


def kohya(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return `weights` with the names of kohya's scripts, and the alpha of each module."""
    renamed: dict[str, torch.Tensor] = {}
    for key, value in weights.items():
        module, _, side = key.removesuffix(".weight").rpartition(".lora_")
        component, _, path = module.partition(".")
        prefix = "lora_unet" if component == "unet" else "lora_te"
        name = f"{prefix}_{path.replace('.', '_')}"
        renamed[f"{name}.lora_{'down' if side == 'A' else 'up'}.weight"] = value
        renamed[f"{name}.alpha"] = torch.tensor(2.0)
    return renamed


@pytest.mark.parametrize("naming", ["diffusers", "kohya"])
def test_lora_that_fits_is_applied(naming: str, tmp_path: Path) -> None:
    file = unet_and_text_encoder_lora(tmp_path)
    if naming == "kohya":
        only_unet = {key: value for key, value in load_file(file).items() if key.startswith("unet.")}
        save_file(kohya(only_unet), file)
    pipeline = build_pipeline()
    before = {name: weight.clone() for name, weight in pipeline.unet.state_dict().items()}
    apply(pipeline, file)
    changed = [name for name, weight in pipeline.unet.state_dict().items() if not torch.equal(weight, before[name])]
    assert changed
    assert all(name.endswith(("to_q.weight", "to_v.weight")) for name in changed)


@pytest.mark.parametrize(("build", "component"), [(build_sdxl, "unet"), (images.build_flux, "transformer")])
def test_lora_that_fits_another_family_is_applied(build: Any, component: str, tmp_path: Path) -> None:
    weights = weights_of(getattr(build(), component), ["to_q", "to_v"])
    file = tmp_path / FILE
    save_file({f"{component}.{key}": value.contiguous() for key, value in weights.items()}, file)
    apply(build(), file)


def test_lora_that_fits_in_part_is_refused_with_the_first_unmatched_keys(tmp_path: Path) -> None:
    file = unet_and_text_encoder_lora(tmp_path)
    count = len(load_file(file)) + len(STRAY_KEYS)
    save_file(load_file(file) | STRAY_KEYS, file)
    with pytest.raises(ModelLoadError) as caught:
        apply(build_pipeline(), file)
    message = str(caught.value)
    assert message.startswith(f"2 of {count} keys of the LoRA weights {file} do not fit StableDiffusionPipeline: ")
    assert f"{STRAY}.lora_A.weight" in message
    assert "CODEC_PARTIAL_LORAS" in message


def test_weights_for_a_component_that_the_model_lacks_are_refused(tmp_path: Path) -> None:
    file = unet_and_text_encoder_lora(tmp_path)
    stray = {key.replace("unet.", "text_encoder_2."): value for key, value in STRAY_KEYS.items()}
    save_file(load_file(file) | stray, file)
    with pytest.raises(ModelLoadError, match=r"2 of \d+ keys .*text_encoder_2\.down_blocks"):
        apply(build_pipeline(), file)


@pytest.mark.slow
def test_partial_lora_is_applied_with_a_warning_if_allowed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = unet_and_text_encoder_lora(tmp_path)
    whole = build_pipeline()
    apply(whole, file)
    save_file(load_file(file) | STRAY_KEYS, file)
    pipeline = build_pipeline()
    with caplog.at_level(logging.WARNING):
        apply(pipeline, file, allow_partial=True)
    assert str(file) in caplog.text
    assert STRAY in caplog.text
    for name, weight in whole.unet.state_dict().items():
        assert torch.equal(weight, pipeline.unet.state_dict()[name]), name


@pytest.mark.parametrize("allow_partial", [False, True])
@pytest.mark.parametrize("component", ["unet", "transformer"])
def test_file_in_which_nothing_fits_is_named(component: str, allow_partial: bool, tmp_path: Path) -> None:
    file = tmp_path / "style.safetensors"
    save_file({key.replace("unet.", f"{component}."): value for key, value in STRAY_KEYS.items()}, file)
    with pytest.raises(ModelLoadError, match=r"LoRA weights .*style\.safetensors"):
        apply(build_pipeline(), file, allow_partial=allow_partial)


@pytest.mark.parametrize("scale", ["nan", "inf", "-inf", "1e999"])
def test_scale_that_is_not_finite_is_an_invalid_setting(scale: str) -> None:
    with pytest.raises(InvalidSettings, match=rf"CODEC_LORAS: .*finite number.*got 'a\.safetensors:{scale}'"):
        parse_loras(f"a.safetensors:{scale}")
