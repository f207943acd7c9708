from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.scenes.labels import (
    CAMERAS,
    MOTIONS,
    PLACES,
    TIMES,
    WEATHERS,
    Motion,
    Place,
    Scene,
    Time,
    sample_scene,
)
from training.scenes.render import render, render_motion

scenes = st.builds(
    Scene,
    place=st.sampled_from(PLACES),
    time=st.sampled_from(TIMES),
    weather=st.sampled_from(WEATHERS),
    camera=st.sampled_from(CAMERAS),
    seed=st.integers(0, 2**31),
    motion=st.sampled_from(MOTIONS),
)
sides = st.sampled_from((64, 128, 192))

Pixels = npt.NDArray[np.float64]


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(scenes, sides, sides, st.floats(0, 1))
def test_rendering_is_deterministic_for_any_scene_and_size(
    scene: Scene, width: int, height: int, moment: float
) -> None:
    first, second = (render(scene, width, height, moment) for _ in range(2))
    assert first.shape == (height, width, 3)
    assert first.dtype == np.uint8
    assert first.std() > 3  # the image is not uniform
    np.testing.assert_array_equal(first, second)


def test_different_seeds_give_different_images() -> None:
    images = {render(Scene("mountain", "day", "clear", "wide", seed), 64, 64).tobytes() for seed in range(8)}
    assert len(images) == 8


@pytest.mark.parametrize("place", PLACES)
def test_larger_image_shows_the_same_scene(place: Place) -> None:
    scene = Scene(place, "day", "clear", "wide", 3)
    small, large = render(scene, 128, 128).astype(float), render(scene, 256, 256).astype(float)
    halved = large.reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))
    assert np.abs(small - halved).mean() < 4


@pytest.mark.parametrize("place", PLACES)
def test_sky_colours_differ_more_between_times_of_day_than_between_seeds(place: Place) -> None:
    def mean_colours(time: Time) -> Pixels:
        images = [render(Scene(place, time, "clear", "wide", seed), 64, 64) for seed in range(4)]
        return np.stack([image[:24].mean(axis=(0, 1)) for image in images])  # the sky

    colours = {time: mean_colours(time) for time in TIMES}
    for time in TIMES:
        spread = np.linalg.norm(colours[time] - colours[time].mean(0), axis=1).max()
        for other in set(TIMES) - {time}:
            assert np.linalg.norm(colours[time].mean(0) - colours[other].mean(0)) > 1.5 * spread


@pytest.mark.parametrize("motion", [motion for motion in MOTIONS if motion != "still"])
def test_consecutive_frames_differ_less_than_first_and_last(motion: Motion) -> None:
    frames = render_motion(Scene("mountain", "dusk", "clouds", "wide", 5, motion), 9, 64, 64).astype(float)
    steps = [np.abs(after - before).mean() for before, after in pairwise(frames)]
    total = np.abs(frames[-1] - frames[0]).mean()
    assert min(steps) > 0
    assert max(steps) < total


def test_zooming_out_is_zooming_in_with_the_frames_reversed() -> None:
    scene = Scene("desert", "day", "clear", "wide", 5)
    inwards, outwards = (render_motion(scene.moving(motion), 5, 64, 64) for motion in ("zoom", "zoom_out"))
    np.testing.assert_array_equal(outwards, inwards[::-1])
    assert np.abs(inwards[0].astype(int) - inwards[-1]).mean() > 1


def test_land_moves_left_when_the_camera_pans_right_and_right_when_it_pans_left() -> None:
    def movement(motion: Motion) -> int:
        first, second = (
            render(Scene("forest", "day", "clear", "wide", 5, motion), 128, 128, moment)[80:].mean(axis=2)
            for moment in (0, 0.2)
        )
        shifts = range(-20, 21)
        errors = [np.abs(np.roll(first, shift, axis=1) - second)[:, 20:-20].mean() for shift in shifts]
        return shifts[int(np.argmin(errors))]

    assert movement("pan") < -3
    assert movement("pan_left") > 3


def test_snow_falls_less_than_the_distance_between_two_flakes_in_each_frame() -> None:
    frames = render_motion(Scene("sea", "day", "snow", "wide", 5), 24, 128, 128).astype(float).mean(axis=3)
    flakes = frames - np.median(frames, axis=0)
    overlaps = [(np.roll(flakes[0], shift, axis=0) * flakes[2])[8:-8].mean() for shift in range(-8, 9)]
    assert 0 < int(np.argmax(overlaps)) - 8 <= 4


def test_sampled_labels_are_uniform() -> None:
    sampled = [sample_scene(seed) for seed in range(2000)]
    for place in PLACES:
        assert sum(scene.place == place for scene in sampled) == pytest.approx(2000 / len(PLACES), rel=0.2)
    for weather in WEATHERS:
        assert sum(scene.weather == weather for scene in sampled) == pytest.approx(2000 / len(WEATHERS), rel=0.2)
