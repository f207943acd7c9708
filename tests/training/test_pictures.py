import numpy as np
import pytest
import torch

from training import pictures
from training.pictures import random_crops, to_pictures, to_tensor
from training.scenes import render
from training.scenes.weather import paint_weather


def test_pictures_survive_the_way_to_tensors_and_back() -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (2, 8, 16, 3), dtype=np.uint8)
    tensor = to_tensor(drawn, torch.device("cpu"))
    assert tensor.shape == (2, 3, 8, 16)
    assert tensor.min() >= -1
    assert tensor.max() <= 1
    np.testing.assert_array_equal(to_pictures(tensor), drawn)


def test_crops_prefer_the_busy_half_and_repeat_with_their_generator() -> None:
    drawn = np.zeros((1, 128, 128, 3), np.uint8)
    drawn[0, 64:, ::2] = 255  # stripes below, nothing above
    crops = random_crops(drawn, np.random.default_rng(0), 200, 32)
    striped = np.mean([(crop == 255).any() for crop in crops])
    uniform = 64 / 97  # of all places for a square, those that reach the stripes
    assert striped > uniform + 0.1
    np.testing.assert_array_equal(crops, random_crops(drawn, np.random.default_rng(0), 200, 32))


def test_another_renderer_has_another_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    before = pictures.renderer_mark()
    pictures.renderer_mark.cache_clear()
    assert pictures.renderer_mark() == before
    pictures.renderer_mark.cache_clear()
    monkeypatch.setattr(render, "paint_weather", lambda stage, rng, _: paint_weather(stage, rng, 0.5))
    assert pictures.renderer_mark() != before
    pictures.renderer_mark.cache_clear()
