"""Decoding latents to images: the same pixels as diffusers, with the VAE that the map names."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor

from codec_client import PixelDecoder, decode_to_frames, decode_to_images
from codec_pixels.known_models import EMBEDDED
from codec_pixels.vae_location import locate_vae
from codec_wire.errors import InvalidMap, ModelLoadError
from codec_wire.maps.bundle import sha256
from codec_wire.maps.document import LatentMap, parse_map
from tests.support.tiny_sd import build_bundle

LATENTS = np.random.default_rng(3).standard_normal((2, 4, 8, 6)).astype(np.float16)


def map_with(**decoder: Any) -> LatentMap:
    document = json.loads(build_bundle("tiny-sd-vae").document)
    document["decoder"] |= decoder
    return parse_map(json.dumps(document).encode())


def test_images_equal_those_of_the_diffusers_image_processor(models_dir: Path) -> None:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(models_dir / "tiny-sd" / "vae")
    images = decode_to_images(LATENTS, map_with(), models_dir=models_dir, device="cpu")
    assert [image.size for image in images] == [(48, 64)] * 2
    for latents, image in zip(LATENTS, images, strict=True):
        with torch.inference_mode():
            decoded = vae.decode(torch.tensor(latents[None]).float() / vae.config.scaling_factor).sample
        expected = VaeImageProcessor().postprocess(decoded, output_type="pil")[0]
        assert np.array_equal(np.asarray(image), np.asarray(expected))


def test_single_frame_and_batch_decode_to_the_same_pixels(models_dir: Path) -> None:
    decoder = PixelDecoder(map_with(), models_dir=models_dir, device="cpu")
    together = decoder.frames(latents for latents in LATENTS)
    assert together.shape == (2, 64, 48, 3)
    assert np.array_equal(decoder.frames(LATENTS[0])[0], together[0])
    with pytest.raises(ModelLoadError, match="latents must have the shape"):
        decoder.frames(LATENTS[0, 0])


def test_vae_is_found_from_the_map_or_the_path(models_dir: Path) -> None:
    vae = models_dir / "tiny-sd" / "vae"
    assert locate_vae(map_with(), models_dir) == vae
    assert locate_vae(map_with(weights_url="tiny-sd"), models_dir) == vae
    assert EMBEDDED.folder is not None
    assert locate_vae(map_with(weights_url=EMBEDDED.name)) == EMBEDDED.folder / "vae"
    frames = decode_to_frames(LATENTS, map_with(weights_url="nowhere"), path=models_dir / "tiny-sd", device="cpu")
    assert np.array_equal(frames, decode_to_frames(LATENTS, map_with(), models_dir=models_dir, device="cpu"))


def test_weights_with_a_different_hash_raise_invalid_map(models_dir: Path) -> None:
    weights = next((models_dir / "tiny-sd" / "vae").glob("*.safetensors"))
    right = map_with(weights_hash=sha256(weights.read_bytes()))
    assert locate_vae(right, models_dir) == weights.parent
    with pytest.raises(InvalidMap, match="has the hash sha256:0000"):
        locate_vae(map_with(weights_hash="sha256:" + "0" * 64), models_dir)


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        ({"weights_url": "/not/there"}, "is neither a local model nor a Hugging Face repository"),
        ({"family": "onnx"}, "must be torch, got onnx"),
        ({"model_class": "AutoencoderXYZ"}, "VAE class AutoencoderXYZ is not supported"),
    ],
)
def test_unavailable_vae_raises_model_load_error(decoder: dict[str, str], message: str, models_dir: Path) -> None:
    with pytest.raises(ModelLoadError, match=message):
        PixelDecoder(map_with(**decoder), models_dir=None if "weights_url" in decoder else models_dir, device="cpu")


def test_map_without_a_decoder_raises_model_load_error(models_dir: Path) -> None:
    document = json.loads(build_bundle("tiny-sd-vae").document)
    del document["decoder"]
    with pytest.raises(ModelLoadError, match="has no decoder"):
        PixelDecoder(parse_map(json.dumps(document).encode()), models_dir=models_dir)
