"""Least squares of the latent-to-RGB matrix."""

import numpy as np
import pytest
from numpy.typing import NDArray

from codec_maps.corpus import Sample
from codec_maps.latent_rgb import DecodedSample, cell_colours, fit_latent_rgb, measure_latent_rgb
from codec_wire.errors import OutOfMemory
from codec_wire.request import GenerationRequest

MATRIX = np.array([[0.1, 0.0, -0.1], [0.0, 0.2, 0.0]])
BIAS = np.array([0.5, 0.4, 0.6])


def decode(latents: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return pixels, four per cell, whose colours are a linear function of the latents."""
    colours = np.moveaxis(latents, 1, -1) @ MATRIX + BIAS
    pixels: NDArray[np.uint8] = (colours.repeat(2, axis=1).repeat(2, axis=2) * 255).round().astype(np.uint8)
    return pixels


def sample(seed: int, *, held_out: bool = False) -> Sample:
    latents = np.random.default_rng(seed).uniform(-2, 2, (1, 2, 8, 6)).astype(np.float16)
    return Sample(GenerationRequest(prompt="x"), list(latents), held_out)


def test_linear_function_is_found() -> None:
    found = measure_latent_rgb("x/y", [sample(0), sample(1), sample(2, held_out=True)], decode)
    assert found is not None
    assert np.allclose(found.matrix, MATRIX, atol=1e-3)
    assert np.allclose(found.bias, BIAS, atol=1e-3)
    assert found == measure_latent_rgb("x/y", [sample(0), sample(1)], decode)


def test_frames_of_a_video_that_share_a_latent_frame_are_averaged() -> None:
    latents = np.zeros((3, 2, 1, 1), np.float32)
    pixels = np.array([10, 20, 40, 60, 80], np.uint8).repeat(2 * 2 * 3).reshape(5, 2, 2, 3)
    assert cell_colours(DecodedSample(latents, pixels))[:, 0, 0, 0] * 255 == pytest.approx([10, 30, 70])


def test_sample_that_does_not_fit_into_memory_is_skipped() -> None:
    def decode_first(latents: NDArray[np.float32]) -> NDArray[np.uint8]:
        if not np.array_equal(latents[0], sample(0).latents[0]):
            raise OutOfMemory("out of memory")
        return decode(latents)

    assert measure_latent_rgb("x/y", [sample(0), sample(1)], decode_first) == fit_latent_rgb(
        "x/y", [DecodedSample(np.stack(sample(0).latents).astype(np.float32), decode(np.stack(sample(0).latents)))]
    )
    assert measure_latent_rgb("x/y", [sample(1)], decode_first) is None
    assert measure_latent_rgb("x/y", [], decode) is None
