"""Decoding of latents, compared with the pixels of the diffusers pipeline."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codec_pixels.vae import decode_latents, load_vae
from codec_wire.errors import ModelLoadError
from tests.support.tiny_sd import build_pipeline, build_vae


def test_decoded_pixels_equal_those_of_the_pipeline(tmp_path: Path) -> None:
    pipeline = build_pipeline()
    pipeline.set_progress_bar_config(disable=True)

    def run(output_type: str) -> Any:
        generator = torch.Generator("cpu").manual_seed(3)
        return pipeline("sea", width=64, height=64, num_inference_steps=3, generator=generator, output_type=output_type)

    latents, expected = run("latent").images, np.asarray(run("pil").images[0])
    assert np.array_equal(decode_latents(pipeline.vae, latents)[0], expected)

    pipeline.vae.save_pretrained(tmp_path)
    loaded = load_vae("AutoencoderKL", str(tmp_path))
    assert np.array_equal(decode_latents(loaded, latents.numpy())[0], expected)


def test_fp16_vae_with_force_upcast_decodes_in_fp32() -> None:
    vae = build_vae(scaling_factor=0.18215).half()
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    assert vae.config.force_upcast
    dtypes: list[torch.dtype] = []
    hook = vae.decoder.register_forward_pre_hook(lambda _module, inputs: dtypes.append(inputs[0].dtype))
    pixels = decode_latents(vae, latents.half())
    hook.remove()
    assert dtypes == [torch.float32]
    assert vae.dtype == torch.float16
    assert np.array_equal(pixels, decode_latents(vae.float(), latents.half()))


def test_missing_or_unsupported_vae_raises_model_load_error(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="AutoencoderKL at"):
        load_vae("AutoencoderKL", str(tmp_path))
    with pytest.raises(ModelLoadError, match="VAE class Other is not supported"):
        load_vae("Other", str(tmp_path))
