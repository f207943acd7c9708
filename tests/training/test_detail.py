import numpy as np
import pytest
import torch
from torch.nn import functional

from training.detail import compare_detail, fine_detail, ghost_rows, gradient_magnitude, sharpness
from training.images import render_scenes, to_images, to_tensor
from training.scenes.labels import PLACES, Scene
from training.scenes.render import Image, render

SCENES = np.stack([render(Scene(place, "day", "clear", "wide", 1), 128, 128) for place in PLACES])


def blurred(images: Image, size: int = 5) -> Image:
    tensor = to_tensor(images, torch.device("cpu"))
    return to_images(functional.avg_pool2d(tensor, size, 1, size // 2, count_include_pad=False))


def step_edge(contrast: int) -> Image:
    image = np.full((1, 64, 64, 3), 40, np.uint8)
    image[:, :, 32:] += np.uint8(contrast)
    return image


def test_sharpness_of_a_step_is_one_at_any_contrast_and_number_of_edges() -> None:
    assert sharpness(step_edge(40)) == sharpness(step_edge(200)) == 1
    two_edges = step_edge(100)
    two_edges[:, :, 56:] = 40
    assert sharpness(two_edges) == 1


def test_sharpness_of_a_ramp_is_the_inverse_of_its_length() -> None:
    assert sharpness(blurred(step_edge(200), 5)) == pytest.approx(1 / 5, abs=0.01)


def test_sharpness_of_images_without_edges_is_zero() -> None:
    assert sharpness(np.full((2, 32, 32, 3), 90, np.uint8)) == 0


def test_blur_lowers_every_measure_of_detail_of_rendered_scenes() -> None:
    soft = blurred(SCENES)
    for measure in (gradient_magnitude, sharpness, fine_detail):
        assert measure(soft) < 0.8 * measure(SCENES)


def test_noise_adds_detail_but_no_sharpness() -> None:
    noise = np.random.default_rng(0).normal(0, 6, SCENES.shape)
    noisy = np.clip(SCENES + noise, 0, 255).astype(np.uint8)
    assert fine_detail(noisy) > 1.2 * fine_detail(SCENES)
    assert sharpness(noisy) <= sharpness(SCENES)


def test_a_row_of_equal_dots_raises_ghost_rows_and_the_same_dots_at_random_positions_do_not() -> None:
    image = np.full((1, 128, 128, 3), 120, np.uint8)
    regular, irregular = image.copy(), image.copy()
    for position in range(4, 126, 12):
        regular[0, 60:64, position : position + 3] = 30
    for position in np.random.default_rng(0).choice(124, 10, replace=False):
        irregular[0, 60:64, position : position + 3] = 30
    assert ghost_rows(image) == pytest.approx(0, abs=1e-6)
    assert ghost_rows(regular) > 25
    assert ghost_rows(irregular) < 0.7 * ghost_rows(regular)


def test_one_wide_object_is_not_a_ghost_row() -> None:
    image = np.full((1, 128, 128, 3), 120, np.uint8)
    image[0, 60:80, 40:70] = 30
    assert ghost_rows(image) < 5


def test_comparison_of_equal_images_has_ratio_one_and_of_blurred_images_a_lower_one() -> None:
    scenes = render_scenes(0, 2, 128)
    assert all(values["ratio"] == 1 for values in compare_detail(scenes, scenes).values())
    ratios = compare_detail(blurred(scenes), scenes)
    assert ratios["sharpness"]["ratio"] < 0.8
    assert ratios["fine_detail"]["ratio"] < 0.8
