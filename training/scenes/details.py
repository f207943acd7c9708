"""Caption details: phrases for colours, light and reflections that the renderer always shows for certain labels.

`captions.caption` names only the labels. The denoiser and the motion adapter are trained with `detailed_caption`, so
that the model learns these words. Evaluation captions have no details, so that all models are evaluated equally.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from training.scenes.captions import MOTION_PHRASES, caption
from training.scenes.labels import Scene

DETAIL_SHARE = 0.3  # share of captions with a detail, for scenes that have one


@dataclass(frozen=True, slots=True)
class Detail:
    """Phrases for one visible property, and the scenes that have it."""

    phrases: Sequence[str]
    applies: Callable[[Scene], bool]


def _has_sun(scene: Scene) -> bool:
    return scene.weather in ("clear", "clouds")


DETAILS = (
    Detail(("under a blue sky", "with a bright blue sky"), lambda s: s.time == "day" and _has_sun(s)),
    Detail(("with an orange sky", "with a glowing horizon"), lambda s: s.time == "dusk" and _has_sun(s)),
    Detail(("under a starry sky", "with stars in the sky"), lambda s: s.time == "night" and s.weather == "clear"),
    Detail(
        ("with the sun reflected in the water", "with golden reflections"),
        lambda s: s.place == "sea" and s.time == "dusk" and _has_sun(s),
    ),
    Detail(
        ("with the moon reflected in the water", "with silver reflections"),
        lambda s: s.place == "sea" and s.time == "night" and _has_sun(s),
    ),
    Detail(
        ("with lit windows", "with lights reflected in the water"), lambda s: s.place == "city" and s.time == "night"
    ),
    Detail(("covered in white", "under white snow"), lambda s: s.weather == "snow" and s.place not in ("sea", "city")),
)


def detailed_caption(scene: Scene, rng: np.random.Generator) -> str:
    """Return a random caption of a scene, sometimes with a detail before the motion."""
    text = caption(scene, rng)
    details = [detail for detail in DETAILS if detail.applies(scene)]
    if not details or rng.random() >= DETAIL_SHARE:
        return text
    phrases = details[int(rng.integers(len(details)))].phrases
    phrase = phrases[int(rng.integers(len(phrases)))]
    motion = next((ending for ending in MOTION_PHRASES[scene.motion] if ending and text.endswith(f", {ending}")), "")
    return f"{text.removesuffix(f', {motion}')}, {phrase}, {motion}" if motion else f"{text}, {phrase}"
