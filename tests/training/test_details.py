from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest

from training.scenes.captions import caption
from training.scenes.details import DETAILS, VARIATIONS, detailed_caption
from training.scenes.labels import (
    ACCENTS,
    GREEN_PLACES,
    PLACES,
    SEASONS,
    TIMES,
    TREES,
    WEATHERS,
    Scene,
    sample_varied_scene,
)
from training.scenes.render import render

Pixels = npt.NDArray[np.float64]
SCENES = [Scene(*labels, "wide", 7) for labels in product(PLACES, TIMES, WEATHERS)]


def phrases_of(scene: Scene) -> set[str]:
    return {phrase for detail in DETAILS if detail.applies(scene) for phrase in detail.phrases}


def test_captions_name_only_details_of_their_scene_and_all_of_them() -> None:
    every_phrase = {phrase for detail in DETAILS for phrase in detail.phrases}
    named = set()
    for scene in SCENES:
        rng = np.random.default_rng(0)
        for text in {detailed_caption(scene, rng) for _ in range(60)}:
            found = {phrase for phrase in every_phrase if f", {phrase}" in text}
            assert len(found) <= 1, text
            assert found <= phrases_of(scene), text
            named |= found
    assert named == every_phrase


def test_detail_is_an_addition_to_the_caption_of_the_labels() -> None:
    scene = Scene("sea", "dusk", "clear", "wide", 0, "sunset")
    for seed in range(60):
        plain = caption(scene, np.random.default_rng(seed))
        detailed = detailed_caption(scene, np.random.default_rng(seed))
        description, motion = plain.rsplit(", ", 1)
        assert detailed.startswith(description)
        assert detailed.endswith(f", {motion}")


def low_sky(image: Pixels) -> Pixels:
    colour: Pixels = image[30:58].mean(axis=(0, 1))
    return colour


@pytest.mark.parametrize(
    ("phrase", "is_visible"),
    [
        ("under a blue sky", lambda image: low_sky(image)[2] > low_sky(image)[0] + 15),
        ("with an orange sky", lambda image: low_sky(image)[0] > low_sky(image)[2] + 30),
        ("under a starry sky", lambda image: image[:50].max() > image[:50].mean() + 60),
        ("covered in white", lambda image: image[104:].mean() > 75),
    ],
)
def test_renders_show_the_details_of_their_captions(phrase: str, is_visible: Callable[[Pixels], bool]) -> None:
    scenes = [scene for scene in SCENES if phrase in phrases_of(scene)]
    assert scenes
    for scene in scenes:
        assert is_visible(render(scene, 128, 128).astype(float)), scene
    others = [scene for scene in SCENES if phrase not in phrases_of(scene)]
    assert not all(is_visible(render(scene, 128, 128).astype(float)) for scene in others[::7])


@pytest.mark.parametrize(("time", "warm"), [("dusk", True), ("night", False)])
def test_light_of_the_sun_or_moon_is_reflected_in_the_sea(time: str, warm: bool) -> None:
    image = render(next(s for s in SCENES if (s.place, s.time, s.weather) == ("sea", time, "clear")), 128, 128)
    brightness = image[80:120].mean(axis=2)
    glitter = image[80:120][brightness > np.quantile(brightness, 0.98)].astype(float).mean(axis=0)
    assert brightness.max() > np.median(brightness) + 40
    assert (glitter[0] > glitter[2] + 20) == warm


def variations_in(text: str) -> set[str]:
    return {phrase for detail in VARIATIONS for phrase in detail.phrases if f", {phrase}," in f"{text},"}


def test_captions_name_most_variations_of_their_scene_and_no_others() -> None:
    named, possible = set(), 0
    for scene in (sample_varied_scene(seed) for seed in range(2000)):
        allowed = {phrase for detail in VARIATIONS if detail.applies(scene) for phrase in detail.phrases}
        groups = {detail.group for detail in VARIATIONS if detail.applies(scene)}
        found = variations_in(detailed_caption(scene, np.random.default_rng(scene.seed))) - phrases_of(scene)
        assert found <= allowed
        assert len(found) <= len(groups)
        possible += len(groups)
        named |= {(scene.seed, phrase) for phrase in found}
    assert 0.75 < len(named) / possible < 0.95
    assert {phrase for _, phrase in named} == {phrase for detail in VARIATIONS for phrase in detail.phrases}


def test_scenes_without_variations_have_captions_without_them() -> None:
    for scene in SCENES:
        assert variations_in(detailed_caption(scene, np.random.default_rng(1))) <= phrases_of(scene)


def mean_colour(scene: Scene, rows: slice) -> Pixels:
    colour: Pixels = render(scene, 128, 128).astype(float)[rows].mean(axis=(0, 1))
    return colour


@pytest.mark.parametrize("place", ["mountain", "forest", "field"])
def test_land_is_greener_in_spring_and_redder_in_autumn_than_in_summer(place: str) -> None:
    land = slice(78, 84) if place == "field" else slice(88, 128)  # the furrows have the colour of their crop
    summer = next(s for s in SCENES if (s.place, s.time, s.weather) == (place, "day", "clear"))
    usual, spring, autumn = (
        mean_colour(scene, land)
        for scene in (summer, replace(summer, season="spring"), replace(summer, season="autumn"))
    )
    assert autumn[0] - autumn[1] > usual[0] - usual[1] + 8
    assert spring.sum() > usual.sum() - 1


def test_variations_are_visible_only_where_they_apply() -> None:
    for scene in (s for s in SCENES if s.weather == "clear" and s.time == "day"):

        def is_visible(varied: Scene, usual: Scene = scene) -> bool:
            return not np.array_equal(render(varied, 128, 128), render(usual, 128, 128))

        for trees in TREES[1:]:
            assert is_visible(replace(scene, trees=trees)) == (scene.place == "field")
        for accent in ACCENTS[1:]:
            assert is_visible(replace(scene, accent=accent)) == (scene.place in ("field", "sea"))
        for season in SEASONS[1:]:
            assert is_visible(replace(scene, season=season)) == (scene.place in GREEN_PLACES)
