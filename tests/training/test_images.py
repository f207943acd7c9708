import numpy as np
import pytest
import torch

from training import images
from training.images import random_crops, to_images, to_tensor
from training.scenes import render
from training.scenes.weather import paint_weather


def test_conversion_to_tensor_and_back_is_lossless() -> None:
    original = np.random.default_rng(0).integers(0, 256, (2, 8, 16, 3), dtype=np.uint8)
    tensor = to_tensor(original, torch.device("cpu"))
    assert tensor.shape == (2, 3, 8, 16)
    assert tensor.min() >= -1
    assert tensor.max() <= 1
    np.testing.assert_array_equal(to_images(tensor), original)


def test_random_crops_prefer_detail_and_depend_only_on_the_generator() -> None:
    half_striped = np.zeros((1, 128, 128, 3), np.uint8)
    half_striped[0, 64:, ::2] = 255  # stripes in the lower half
    crops = random_crops(half_striped, np.random.default_rng(0), 200, 32)
    striped = np.mean([(crop == 255).any() for crop in crops])
    uniform = 64 / 97  # share of crop positions that include stripes
    assert striped > uniform + 0.1
    np.testing.assert_array_equal(crops, random_crops(half_striped, np.random.default_rng(0), 200, 32))


@pytest.mark.slow
def test_renderer_fingerprint_changes_with_the_renderer(monkeypatch: pytest.MonkeyPatch) -> None:
    before = images.renderer_fingerprint()
    images.renderer_fingerprint.cache_clear()
    assert images.renderer_fingerprint() == before
    images.renderer_fingerprint.cache_clear()
    monkeypatch.setattr(render, "paint_weather", lambda context, rng, _: paint_weather(context, rng, 0.5))
    assert images.renderer_fingerprint() != before
    images.renderer_fingerprint.cache_clear()
