"""Decoding of latents, compared with the pixels of the diffusers pipeline."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from codec_pixels.vae import decode_latents, load_vae, vae_class_of
from codec_pixels.vae_location import pipeline_class_of
from codec_wire.errors import ModelLoadError
from tests.support.tiny_sd import build_pipeline, build_vae


def test_decoded_pixels_equal_those_of_the_pipeline(tmp_path: Path) -> None:
    pipeline = build_pipeline()
    pipeline.set_progress_bar_config(disable=True)

    def run(output_type: str) -> Any:
        generator = torch.Generator("cpu").manual_seed(3)
        return pipeline("sea", width=64, height=64, num_inference_steps=3, generator=generator, output_type=output_type)

    latents, expected = run("latent").images, np.asarray(run("pil").images[0])
    assert np.array_equal(decode_latents(pipeline.vae, latents, "StableDiffusionPipeline")[0], expected)

    pipeline.vae.save_pretrained(tmp_path)
    loaded = load_vae("AutoencoderKL", str(tmp_path))
    assert np.array_equal(decode_latents(loaded, latents.numpy(), None)[0], expected)


@pytest.mark.parametrize(
    ("pipeline_class", "expected"),
    [("StableDiffusionXLPipeline", torch.float32), ("StableDiffusionPipeline", torch.float16)],
)
def test_only_sdxl_decodes_in_fp32_if_its_fp16_vae_has_force_upcast(pipeline_class: str, expected: torch.dtype) -> None:
    vae = build_vae(scaling_factor=0.18215).half()
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    assert vae.config.force_upcast
    dtypes: list[torch.dtype] = []
    hook = vae.decoder.register_forward_pre_hook(lambda _module, inputs: dtypes.append(inputs[0].dtype))
    pixels = decode_latents(vae, latents.half(), pipeline_class)
    hook.remove()
    assert dtypes == [expected]
    assert vae.dtype == torch.float16
    in_fp32 = decode_latents(vae.float(), latents.half(), pipeline_class)
    assert np.array_equal(pixels, in_fp32) == (expected == torch.float32)


def test_missing_or_unsupported_vae_raises_model_load_error(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="AutoencoderKL at"):
        load_vae("AutoencoderKL", str(tmp_path))
    with pytest.raises(ModelLoadError, match="VAE class Other is not supported"):
        load_vae("Other", str(tmp_path))


@pytest.mark.parametrize(
    ("channels", "shift", "moments", "expected"),
    [
        (4, 0.3, ((0.5,) * 4, (2.0,) * 4), "StableDiffusionXLPipeline"),
        (4, 0.3, None, "StableDiffusionXLPipeline"),
        (16, 0.3, ((0.5,) * 16, (2.0,) * 16), "FluxPipeline"),
        (16, None, None, "FluxPipeline"),
    ],
)
def test_vae_without_a_pipeline_is_decoded_by_its_number_of_channels(
    channels: int, shift: float | None, moments: tuple[Any, Any] | None, expected: str
) -> None:
    mean, deviation = moments or (None, None)
    vae = AutoencoderKL(
        latent_channels=channels,
        norm_num_groups=8,
        block_out_channels=(8,),
        scaling_factor=0.5,
        shift_factor=shift,
        latents_mean=mean,
        latents_std=deviation,
    ).eval()
    latents = torch.randn(1, channels, 8, 8, generator=torch.Generator().manual_seed(2))
    assert np.array_equal(decode_latents(vae, latents, None), decode_latents(vae, latents, expected))


@pytest.mark.parametrize("name", ["FluxPipeline", ["flux_module", "FluxPipeline"]])
def test_pipeline_class_is_read_next_to_or_above_the_vae(name: Any, tmp_path: Path) -> None:
    folder = tmp_path / "vae"
    folder.mkdir()
    assert pipeline_class_of(folder) is None
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": name}))
    assert pipeline_class_of(folder) == pipeline_class_of(tmp_path) == "FluxPipeline"
    (folder / "model_index.json").write_text("not json")
    assert pipeline_class_of(folder) == "FluxPipeline"


def test_subclass_of_a_vae_is_decoded_as_its_base_class() -> None:
    class Brighter(AutoencoderKL):  # type: ignore[misc]
        def decode(self, *arguments: Any, **options: Any) -> Any:
            output = super().decode(*arguments, **options)
            output.sample = output.sample + 1
            return output

    plain = build_vae(scaling_factor=0.18215)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    expected = decode_latents(plain, latents, "StableDiffusionPipeline")
    plain.__class__ = Brighter
    assert vae_class_of(plain) == "AutoencoderKL"
    assert np.array_equal(decode_latents(plain, latents, "StableDiffusionPipeline"), expected)
    assert type(plain) is Brighter
