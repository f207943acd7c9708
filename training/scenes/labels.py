"""Scenes and their labels. Captions name the labels, the renderer shows them, and the classifier predicts them."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

Place = Literal["mountain", "sea", "desert", "forest", "city", "field"]
Time = Literal["dawn", "day", "dusk", "night"]
Weather = Literal["clear", "clouds", "fog", "rain", "snow"]
Camera = Literal["wide", "close", "aerial"]
Motion = Literal["still", "pan", "pan_left", "drift", "sunset", "zoom", "zoom_out"]

PLACES: tuple[Place, ...] = get_args(Place)
TIMES: tuple[Time, ...] = get_args(Time)
WEATHERS: tuple[Weather, ...] = get_args(Weather)
CAMERAS: tuple[Camera, ...] = get_args(Camera)
MOTIONS: tuple[Motion, ...] = get_args(Motion)


@dataclass(frozen=True, slots=True)
class Scene:
    """Description of one scene: labels for its content, and a seed for all other random choices."""

    place: Place
    time: Time
    weather: Weather
    camera: Camera
    seed: int
    motion: Motion = "still"

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
