"""The exported decoder of the embedded model, which ships with the project."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLLTXVideo,
    AutoencoderKLTemporalDecoder,
    AutoencoderKLWan,
)

from codec_pixels.known_models import EMBEDDED, EMBEDDED_MODELS_DIR
from codec_pixels.onnx_export import MAX_DIFFERENCE, DecoderModule, compare_decoder, export_decoder, run_decoder
from codec_pixels.vae import decode_latents, load_vae
from codec_wire.errors import ModelLoadError
from core.decoder_file import DECODER_FILE
from core.map_store import bundle_folder
from tests.support.families.images import build_sana
from tests.support.families.videos import build_hunyuan

pytestmark = pytest.mark.slow

PIPELINE = "StableDiffusionPipeline"


@pytest.fixture(scope="module")
def shipped() -> bytes:
    return (bundle_folder(EMBEDDED_MODELS_DIR, EMBEDDED.latent_space) / DECODER_FILE).read_bytes()


@pytest.fixture
def module() -> DecoderModule:
    assert EMBEDDED.folder is not None
    vae = load_vae("AutoencoderKL", str(EMBEDDED.folder / "vae"), torch_dtype=torch.float32)
    return DecoderModule(vae, PIPELINE)


@pytest.mark.parametrize("shape", [(1, 4, 32, 32), (3, 4, 5, 9)])
def test_shipped_decoder_decodes_like_the_vae(shape: tuple[int, ...], shipped: bytes, module: DecoderModule) -> None:
    difference = compare_decoder(module, shipped, shape, MAX_DIFFERENCE[False])
    assert difference.levels <= 1
    latents = np.random.default_rng(7).standard_normal(shape, np.float32)
    pixels = np.rint(run_decoder(shipped, latents) * 255).transpose(0, 2, 3, 1)
    expected = decode_latents(module.vae, latents, PIPELINE).astype(np.float32)
    assert np.abs(pixels - expected).max() <= 1
    assert (pixels != expected).mean() < 1e-4


def test_decoder_that_differs_from_the_vae_is_refused(shipped: bytes, module: DecoderModule) -> None:
    with torch.no_grad():
        module.vae.decoder.conv_out.bias += 0.01
    with pytest.raises(ModelLoadError, match=r"differs from torch by 0\.005 for latents of the shape \[1, 4, 8, 8\]"):
        compare_decoder(module, shipped, (1, 4, 8, 8), MAX_DIFFERENCE[False])


def test_vae_of_an_unknown_class_is_refused() -> None:
    with pytest.raises(ModelLoadError, match="VAE class Linear is not supported; supported classes: AutoencoderKL"):
        DecoderModule(torch.nn.Linear(1, 1), None)


def test_shipped_decoder_contains_no_paths(shipped: bytes) -> None:
    assert b".py" not in shipped
    assert b"site-packages" not in shipped


def test_exported_linear_attention_divides_zeros_like_torch() -> None:
    vae = build_sana().vae
    data, differences = export_decoder(vae, "SanaPipeline", 4, fp16_weights=False)
    assert max(difference.value for difference in differences) < 1e-5
    zeros = np.zeros((2, 4, 9, 24), np.float32)  # the ReLU of many keys and queries returns 0
    found = run_decoder(data, zeros)
    expected = DecoderModule(vae, "SanaPipeline")(torch.from_numpy(zeros)).detach().numpy()
    assert np.abs(found - expected).max() < 1e-5
    assert not any("apply_linear_attention" in vars(layer) for layer in vae.modules())


# Exporting a decoder takes seconds for each level of its VAE. These have two levels instead of four.


def small_svd_vae() -> Any:
    return AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4
    )


def small_ltx_vae() -> Any:
    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8),
        down_block_types=("LTXVideoDownBlock3D",) * 2,
        decoder_block_out_channels=(8, 8),
        layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        spatio_temporal_scaling=(True, False),
        decoder_spatio_temporal_scaling=(True, False),
        decoder_inject_noise=(False,) * 3,
    )
    vae.latents_mean.copy_(torch.linspace(-0.5, 0.5, 8))
    vae.latents_std.copy_(torch.linspace(0.5, 2.0, 8))
    return vae


def small_cogvideox_vae() -> Any:
    return AutoencoderKLCogVideoX(
        block_out_channels=(8, 8),
        down_block_types=("CogVideoXDownBlock3D",) * 2,
        up_block_types=("CogVideoXUpBlock3D",) * 2,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=2,
    )


def small_wan_vae() -> Any:
    means, deviations = ([value] * 4 for value in (0.0, 1.0))
    return AutoencoderKLWan(
        base_dim=3,
        z_dim=4,
        dim_mult=[1, 1],
        num_res_blocks=1,
        temperal_downsample=[True],
        latents_mean=means,
        latents_std=deviations,
    )


@pytest.mark.parametrize(
    ("build", "pipeline_class", "channels"),
    [(small_svd_vae, "StableVideoDiffusionPipeline", 4), (small_ltx_vae, "LTXPipeline", 8)],
)
def test_video_decoder_is_exported_for_any_number_of_frames(
    build: Callable[[], Any], pipeline_class: str, channels: int
) -> None:
    torch.manual_seed(0)
    _, differences = export_decoder(build().eval(), pipeline_class, channels, fp16_weights=False)
    assert max(difference.value for difference in differences) < 1e-5
    assert len({difference.shape[0] for difference in differences}) == 3


@pytest.mark.parametrize(
    ("build", "pipeline_class"),
    [
        (small_cogvideox_vae, "CogVideoXPipeline"),
        (lambda: build_hunyuan().vae, "HunyuanVideoPipeline"),
        (small_wan_vae, "WanPipeline"),
    ],
)
def test_video_decoder_of_fixed_length_is_refused(build: Callable[[], Any], pipeline_class: str) -> None:
    vae = build().eval()
    with pytest.raises(ModelLoadError, match=f"a decoder of the class {type(vae).__name__} cannot be exported"):
        export_decoder(vae, pipeline_class, 4, fp16_weights=False)
