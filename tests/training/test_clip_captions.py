import numpy as np
import pytest

from training.scenes.captions import MOTION_PHRASES
from training.scenes.clip_captions import (
    STILL_PHRASES,
    USUAL_MOTION,
    WEATHER_MOTION_PHRASES,
    clip_caption,
    evaluation_clip_caption,
    image_caption,
    without_motion,
)
from training.scenes.details import DETAILS, VARIATIONS
from training.scenes.labels import MOTIONS, PLACES, Motion, Place, Scene


def captions_of(scene: Scene) -> set[str]:
    rng = np.random.default_rng(0)
    return {clip_caption(scene, rng) for _ in range(80)}


def is_named(scene: Scene, text: str) -> bool:
    still = (*STILL_PHRASES, *WEATHER_MOTION_PHRASES.get(scene.weather, ()))
    phrases = still if scene.motion == "still" else MOTION_PHRASES[scene.motion]
    return any(text.endswith(f", {phrase}") for phrase in phrases)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("motion", MOTIONS)
def test_only_the_usual_motion_of_a_place_is_sometimes_unnamed(place: Place, motion: Motion) -> None:
    scene = Scene(place, "dusk", "clouds", "wide", 0, motion)
    named = {is_named(scene, text) for text in captions_of(scene)}
    assert named == ({True, False} if motion == USUAL_MOTION[place] else {True})


def test_falling_snow_is_the_motion_of_a_snowy_scene_with_a_fixed_camera() -> None:
    endings = {text.rsplit(", ", 1)[1] for text in captions_of(Scene("city", "day", "snow", "wide", 0))}
    assert {"snow falling", "falling snow"} < endings
    assert endings <= {*STILL_PHRASES, "snow falling", "falling snow"}
    dry = {text.rsplit(", ", 1)[1] for text in captions_of(Scene("city", "day", "clear", "wide", 0))}
    assert dry == set(STILL_PHRASES)


def test_evaluation_captions_name_the_motion_and_no_details() -> None:
    phrases = [phrase for detail in (*DETAILS, *VARIATIONS) for phrase in detail.phrases]
    for motion in MOTIONS:
        scene = Scene("field", "dusk", "clear", "wide", 0, motion, season="autumn", trees="many", accent="blue")
        for seed in range(40):
            text = evaluation_clip_caption(scene, np.random.default_rng(seed))
            assert is_named(scene, text)
            assert not any(f", {phrase}" in text for phrase in phrases), text


def test_captions_of_images_name_a_motion_as_often_as_wanted() -> None:
    rng = np.random.default_rng(0)
    scene = Scene("city", "day", "snow", "wide", 0)
    captions = [image_caption(scene, rng, 0.5) for _ in range(400)]
    named = [(text, motion) for text, motion in captions if motion is not None]
    assert 160 < len(named) < 240
    assert {motion for _, motion in named} == set(MOTIONS)
    assert all(is_named(scene.moving(motion), text) for text, motion in named)
    assert not any(is_named(scene.moving(motion), without_motion(text)) for text, motion in named)
    assert not any(
        is_named(scene.moving(motion), text) for text, none in captions if none is None for motion in MOTIONS
    )
