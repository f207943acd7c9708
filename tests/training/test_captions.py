import re

import numpy as np
import pytest

from training.scenes.captions import (
    CAMERA_WORDS,
    MOTION_PHRASES,
    PLACE_WORDS,
    TIME_PHRASES,
    WEATHER_ADJECTIVES,
    WEATHER_PHRASES,
    caption,
    plain_caption,
)
from training.scenes.labels import CAMERAS, MOTIONS, PLACES, TIMES, WEATHERS, Motion, Place, Scene, Weather

SEED_PROMPT = "a wide-angle photograph of a snowy mountain at dusk"
SNOWY_DUSK = Scene("mountain", "dusk", "snow", "wide", 0)


def test_every_label_has_caption_words() -> None:
    assert set(PLACE_WORDS) == set(PLACES)
    assert set(TIME_PHRASES) == set(TIMES)
    assert set(WEATHER_ADJECTIVES) == set(WEATHER_PHRASES) == set(WEATHERS)
    assert set(CAMERA_WORDS) == set(CAMERAS)
    assert set(MOTION_PHRASES) == set(MOTIONS)


def test_words_of_different_labels_are_distinct() -> None:
    for table in (PLACE_WORDS, TIME_PHRASES, WEATHER_ADJECTIVES, WEATHER_PHRASES, MOTION_PHRASES):
        words = [word for alternatives in table.values() for word in alternatives]
        assert len(words) == len(set(words))


def test_captions_of_a_snowy_mountain_at_dusk_include_the_seed_prompt() -> None:
    assert plain_caption(SNOWY_DUSK) == SEED_PROMPT
    rng = np.random.default_rng(0)
    captions = {caption(SNOWY_DUSK, rng) for _ in range(6_000)}
    assert SEED_PROMPT in captions
    assert len(captions) > 1000


def test_captions_of_a_moving_scene_include_the_words_that_users_write() -> None:
    rng = np.random.default_rng(2)
    expected: dict[Motion, str] = {
        "pan_left": "camera panning left",
        "zoom": "zooming in",
        "zoom_out": "zooming out",
        "sunset": "sun setting",
    }
    for motion, words in expected.items():
        assert any(caption(SNOWY_DUSK.moving(motion), rng).endswith(f", {words}") for _ in range(60))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("weather", WEATHERS)
def test_caption_names_every_label(place: Place, weather: Weather) -> None:
    rng = np.random.default_rng(1)
    for time in TIMES:
        for camera in CAMERAS:
            scene = Scene(place, time, weather, camera, 0, "zoom")
            for _ in range(5):
                text = caption(scene, rng)
                assert any(phrase in text for phrase in TIME_PHRASES[time]), text
                assert any(phrase in text for phrase in MOTION_PHRASES["zoom"]), text
                assert any(name.split()[-1] in text for name in PLACE_WORDS[place]), text
                weather_words = (*WEATHER_ADJECTIVES[weather], *WEATHER_PHRASES[weather])
                assert weather == "clear" or any(phrase in text for phrase in weather_words), text
                assert camera == "wide" or any(w in text for side in CAMERA_WORDS[camera] for w in side), text
                assert not re.search(r"\ba [aeiou]|  |\ban [^aeiou]", text), text
