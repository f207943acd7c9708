"""Captions of scenes with words for a motion, for videos and for still images."""

from collections.abc import Mapping, Sequence

import numpy as np

from training.scenes.captions import caption
from training.scenes.details import detailed_caption
from training.scenes.labels import MOTIONS, Motion, Place, Scene, Weather

UNNAMED_SHARE = 0.4  # share of captions without words for the motion, if it is the usual one of the place

USUAL_MOTION: Mapping[Place, Motion] = {
    "mountain": "pan",
    "sea": "sunset",
    "desert": "pan",
    "forest": "pan",
    "city": "zoom",
    "field": "pan",
}
"""Motion of each place in a video whose prompt does not name a motion."""

STILL_PHRASES: Sequence[str] = ("a static shot", "a fixed camera", "the camera not moving")
WEATHER_MOTION_PHRASES: Mapping[Weather, Sequence[str]] = {
    "fog": ("fog drifting", "drifting fog"),
    "rain": ("rain falling", "falling rain"),
    "snow": ("snow falling", "falling snow"),
}
"""Words for what moves in front of a camera that does not move."""


def clip_caption(scene: Scene, rng: np.random.Generator) -> str:
    """Return a random caption of a moving scene. Other motions than the usual one of the place are always named."""
    if scene.motion == USUAL_MOTION[scene.place] and rng.random() < UNNAMED_SHARE:
        return detailed_caption(scene.moving("still"), rng)
    return _with_still_words(detailed_caption(scene, rng), scene, rng)


def image_caption(scene: Scene, rng: np.random.Generator, motion_share: float) -> tuple[str, Motion | None]:
    """Return a random caption of a still image, and the motion that it names.

    A share of `motion_share` of the captions names a random motion. It must not change the image.
    """
    if rng.random() >= motion_share:
        return detailed_caption(scene, rng), None
    moving = scene.moving(MOTIONS[int(rng.integers(len(MOTIONS)))])
    return _with_still_words(detailed_caption(moving, rng), moving, rng), moving.motion


def without_motion(text: str) -> str:
    """Return a caption that names a motion without the words for it, which are the last ones."""
    return text.rpartition(", ")[0]


def evaluation_clip_caption(scene: Scene, rng: np.random.Generator) -> str:
    """Return a random caption that names the labels of a moving scene and its motion, without details."""
    return _with_still_words(caption(scene, rng), scene, rng)


def _with_still_words(text: str, scene: Scene, rng: np.random.Generator) -> str:
    """Add words for a camera that does not move, if it does not. Captions of images have no such words."""
    if scene.motion != "still":
        return text
    phrases = STILL_PHRASES
    if scene.weather in WEATHER_MOTION_PHRASES and rng.random() < 0.6:
        phrases = WEATHER_MOTION_PHRASES[scene.weather]
    return f"{text}, {phrases[int(rng.integers(len(phrases)))]}"
