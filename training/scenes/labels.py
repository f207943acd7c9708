"""Scenes and their labels. Captions name the labels, the renderer shows them, and the classifier predicts them."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

Place = Literal["mountain", "sea", "desert", "forest", "city", "field"]
Time = Literal["dawn", "day", "dusk", "night"]
Weather = Literal["clear", "clouds", "fog", "rain", "snow"]
Camera = Literal["wide", "close", "aerial"]
Motion = Literal["still", "pan", "pan_left", "drift", "sunset", "zoom", "zoom_out"]
Season = Literal["summer", "spring", "autumn"]  # winter is the weather "snow"
Trees = Literal["few", "none", "one", "many"]
Accent = Literal["usual", "red", "white", "blue", "yellow"]

PLACES: tuple[Place, ...] = get_args(Place)
TIMES: tuple[Time, ...] = get_args(Time)
WEATHERS: tuple[Weather, ...] = get_args(Weather)
CAMERAS: tuple[Camera, ...] = get_args(Camera)
MOTIONS: tuple[Motion, ...] = get_args(Motion)
SEASONS: tuple[Season, ...] = get_args(Season)
TREES: tuple[Trees, ...] = get_args(Trees)
ACCENTS: tuple[Accent, ...] = get_args(Accent)

GREEN_PLACES: tuple[Place, ...] = ("mountain", "forest", "field")  # the places that show the season


@dataclass(frozen=True, slots=True)
class Scene:
    """Description of one scene: labels for its content, and a seed for all other random choices.

    `season`, `trees` and `accent` are variations. A scene without variations has the first value of each.
    """

    place: Place
    time: Time
    weather: Weather
    camera: Camera
    seed: int
    motion: Motion = "still"
    season: Season = "summer"  # colour of leaves and grass; visible in GREEN_PLACES without snow
    trees: Trees = "few"  # number of trees of a field: 0, 1, 5 or 13
    accent: Accent = "usual"  # colour of the barn of a field or of the sail of a boat

    def moving(self, motion: Motion) -> "Scene":
        """Return a copy of the scene with the given motion."""
        return replace(self, motion=motion)


def sample_scene(seed: int) -> Scene:
    """Return the scene of `seed`. Labels are independent and uniform, except that half of the cameras are wide."""
    rng = np.random.default_rng((seed, 1))
    return Scene(
        place=PLACES[rng.integers(len(PLACES))],
        time=TIMES[rng.integers(len(TIMES))],
        weather=WEATHERS[rng.integers(len(WEATHERS))],
        camera=("wide", *CAMERAS)[rng.integers(1 + len(CAMERAS))],
        seed=seed,
    )


def sample_varied_scene(seed: int) -> Scene:
    """Return the scene of `seed`, in about half of the cases with variations that are visible in it."""
    return _varied(sample_scene(seed))


def sample_moving_scene(seed: int) -> Scene:
    """Return the scene of `seed` with a random motion, sometimes with variations.

    The weather and the time of day are changed if the motion would not be visible: clouds drift only in a cloudy sky,
    and the sun sets by day or at dusk in a clear or cloudy sky.
    """
    scene = sample_scene(seed)
    motion = MOTIONS[np.random.default_rng((seed, 8)).integers(len(MOTIONS))]
    if motion == "drift":
        scene = replace(scene, weather="clouds")
    if motion == "sunset":
        time: Time = "day" if scene.time == "day" else "dusk"
        scene = replace(scene, time=time, weather="clouds" if scene.weather == "clouds" else "clear")
    return _varied(scene.moving(motion))


def _varied(scene: Scene) -> Scene:
    rng = np.random.default_rng((scene.seed, 9))
    season, trees = SEASONS[rng.integers(len(SEASONS))], TREES[rng.integers(len(TREES))]
    accent = ACCENTS[rng.integers(len(ACCENTS))]
    plain = rng.random(3) < 0.4  # applies to season, trees and accent separately
    if scene.place in GREEN_PLACES and scene.weather != "snow" and not plain[0]:
        scene = replace(scene, season=season)
    if scene.place == "field" and not plain[1]:
        scene = replace(scene, trees=trees)
    if scene.place in ("field", "sea") and not plain[2]:
        scene = replace(scene, accent=accent)
    return scene
