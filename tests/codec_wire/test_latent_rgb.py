"""The document of the latent-to-RGB matrix, and the colours that it gives."""

import json
from typing import Any

import numpy as np
import pytest

from codec_client import latent_to_rgb
from codec_wire.errors import InvalidMap
from codec_wire.maps.latent_rgb import LatentRgb

MATRIX = LatentRgb(latent_space="x/y", matrix=((1.0, 0.0, 0.0), (0.0, 0.5, 0.0)), bias=(0.0, 0.5, 1.0))


def test_document_is_read_as_it_was_written() -> None:
    assert LatentRgb.parse(MATRIX.serialize()) == MATRIX


def test_latents_become_one_pixel_per_cell() -> None:
    latents = np.zeros((2, 3, 4), np.float16)
    latents[0, 0, 1] = 0.6
    latents[1, 2, 3] = -1
    colours = latent_to_rgb(latents, MATRIX)
    assert colours.shape == (3, 4, 3)
    assert colours.dtype == np.uint8
    assert colours[0, 1].tolist() == [153, 128, 255]
    assert colours[2, 3].tolist() == [0, 0, 255]
    frames = latent_to_rgb([latents, latents], MATRIX)
    assert np.array_equal(frames, np.stack([colours, colours]))


def test_colours_out_of_range_are_clamped() -> None:
    latents = np.array([[[np.inf, -5, np.nan]], [[9, -9, 0]]], np.float32)
    assert latent_to_rgb(latents, MATRIX).tolist() == [[[255, 255, 255], [0, 0, 255], [0, 128, 255]]]


@pytest.mark.parametrize("shape", [(3, 4, 4), (4, 4)])
def test_latents_with_other_channels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[\.\.\., 2, h, w\]"):
        latent_to_rgb(np.zeros(shape, np.float32), MATRIX)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"matrix": []}, "matrix"),
        ({"matrix": [[1, 2]]}, "matrix"),
        ({"bias": [0, 0, "x"]}, "bias"),
        ({"other": 1}, "other"),
        ({"latent_space": None}, "latent_space"),
    ],
)
def test_invalid_document_is_refused_with_its_key(changes: dict[str, Any], key: str) -> None:
    document = json.dumps(json.loads(MATRIX.serialize()) | changes)
    with pytest.raises(InvalidMap, match=f"latent-to-RGB matrix: {key}"):
        LatentRgb.parse(document.encode())
