"""The exported decoder of the embedded model, which ships with the project."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from codec_pixels.known_models import EMBEDDED, EMBEDDED_MODELS_DIR
from codec_pixels.onnx_export import MAX_DIFFERENCE, DecoderModule, compare_decoder, export_decoder, run_decoder
from codec_pixels.vae import decode_latents, load_vae
from codec_wire.errors import ModelLoadError
from core.decoder_file import DECODER_FILE
from core.map_store import bundle_folder
from tests.support.families.images import build_sana
from tests.support.families.videos import build_cogvideox, build_hunyuan, build_ltx, build_svd, build_wan

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


@pytest.mark.parametrize(("build", "channels"), [(build_svd, 4), (build_ltx, 8)])
def test_video_decoder_is_exported_for_any_number_of_frames(build: Callable[[], Any], channels: int) -> None:
    pipeline = build()
    _, differences = export_decoder(pipeline.vae, type(pipeline).__name__, channels, fp16_weights=False)
    assert max(difference.value for difference in differences) < 1e-5
    assert len({difference.shape[0] for difference in differences}) == 3


@pytest.mark.parametrize(("build", "channels"), [(build_cogvideox, 4), (build_hunyuan, 4), (build_wan, 16)])
def test_video_decoder_of_fixed_length_is_refused(build: Callable[[], Any], channels: int) -> None:
    pipeline = build()
    name = type(pipeline.vae).__name__
    with pytest.raises(ModelLoadError, match=f"a decoder of the class {name} cannot be exported"):
        export_decoder(pipeline.vae, type(pipeline).__name__, channels, fp16_weights=False)
