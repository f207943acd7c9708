"""Decoding gives what the pipeline itself gives."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codec_pixels.vae import decode_latents, load_vae
from codec_wire.errors import ModelLoadError
from tests.support.tiny_sd import build_pipeline, build_vae


def test_latents_decode_to_the_pipelines_own_pixels(tmp_path: Path) -> None:
    pipeline = build_pipeline()
    pipeline.set_progress_bar_config(disable=True)

    def run(output_type: str) -> Any:
        generator = torch.Generator("cpu").manual_seed(3)
        return pipeline("sea", width=64, height=64, num_inference_steps=3, generator=generator, output_type=output_type)

    latents, own = run("latent").images, np.asarray(run("pil").images[0])
    assert np.array_equal(decode_latents(pipeline.vae, latents)[0], own)

    pipeline.vae.save_pretrained(tmp_path)
    loaded = load_vae("AutoencoderKL", str(tmp_path))
    assert np.array_equal(decode_latents(loaded, latents.numpy())[0], own)


def test_a_vae_in_fp16_decodes_in_fp32_where_it_says_so() -> None:
    vae = build_vae(scaling_factor=0.18215).half()
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    assert vae.config.force_upcast
    seen: list[torch.dtype] = []
    hook = vae.decoder.register_forward_pre_hook(lambda _module, given: seen.append(given[0].dtype))
    pixels = decode_latents(vae, latents.half())
    hook.remove()
    assert seen == [torch.float32]
    assert vae.dtype == torch.float16
    assert np.array_equal(pixels, decode_latents(vae.float(), latents.half()))


def test_a_vae_that_cannot_be_had_says_why(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="AutoencoderKL at"):
        load_vae("AutoencoderKL", str(tmp_path))
    with pytest.raises(ModelLoadError, match="class Other"):
        load_vae("Other", str(tmp_path))
