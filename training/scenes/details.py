"""Caption details: phrases for colours, light, reflections, seasons and the number of trees.

`captions.caption` names only the labels. The denoiser and the motion adapter are trained with `detailed_caption`, so
that the model learns these words. Evaluation captions have no details, so that all models are evaluated equally.
DETAILS are what the renderer always shows for certain labels. VARIATIONS are what it shows only in varied scenes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from training.scenes.captions import MOTION_PHRASES, caption
from training.scenes.labels import ACCENTS, GREEN_PLACES, Accent, Place, Scene

DETAIL_SHARE = 0.3  # share of captions with a detail, for scenes that have one
VARIATION_SHARE = 0.85  # share of captions that name a variation, for scenes that have it


@dataclass(frozen=True, slots=True)
class Detail:
    """Phrases for one visible property, and the scenes that have it. A caption names one detail of a group."""

    phrases: Sequence[str]
    applies: Callable[[Scene], bool]
    group: str = ""


def _has_sun(scene: Scene) -> bool:
    return scene.weather in ("clear", "clouds")


def _is_summer(scene: Scene) -> bool:
    return scene.season == "summer" and scene.weather != "snow"


def _has_broad_trees(scene: Scene) -> bool:
    return scene.place == "field" and scene.trees != "none"


def _has_accent(place: Place, accent: Accent, scene: Scene) -> bool:
    return scene.place == place and scene.accent == accent


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
    Detail(("reflected in the water", "with towers reflected in the water"), lambda s: s.place == "city"),
    Detail(("in summer", "on a summer day"), lambda s: s.place in GREEN_PLACES and s.time == "day" and _is_summer(s)),
    Detail(("with a red barn", "with a red farmhouse"), lambda s: s.place == "field" and s.accent == "usual"),
    Detail(("with a few trees", "with some trees"), lambda s: s.place == "field" and s.trees == "few"),
    Detail(("covered in white", "under white snow"), lambda s: s.weather == "snow" and s.place not in ("sea", "city")),
)


VARIATIONS = (
    Detail(("in spring", "on a spring day", "with fresh green"), lambda s: s.season == "spring", "season"),
    Detail(
        ("with blossoming trees", "with pink trees"), lambda s: s.season == "spring" and _has_broad_trees(s), "season"
    ),
    Detail(("in autumn", "on an autumn day", "in autumn colours"), lambda s: s.season == "autumn", "season"),
    Detail(
        ("with orange trees", "with orange leaves"), lambda s: s.season == "autumn" and _has_broad_trees(s), "season"
    ),
    Detail(("without trees", "with no trees"), lambda s: s.trees == "none", "trees"),
    Detail(("with one tree", "with a single tree"), lambda s: s.trees == "one", "trees"),
    Detail(("with many trees", "with a lot of trees"), lambda s: s.trees == "many", "trees"),
    *(
        Detail((f"with a {accent} barn", f"with a {accent} farmhouse"), partial(_has_accent, "field", accent), "accent")
        for accent in ACCENTS[1:]
    ),
    *(
        Detail(
            (f"with a {accent} sail", f"with a boat with a {accent} sail"),
            partial(_has_accent, "sea", accent),
            "accent",
        )
        for accent in ACCENTS[1:]
    ),
)


def detailed_caption(scene: Scene, rng: np.random.Generator) -> str:
    """Return a random caption of a scene, with its variations and sometimes with a detail before the motion."""
    text = caption(scene, rng)
    phrases = [_pick(rng, detail) for detail in _named_variations(scene, rng)]
    details = [detail for detail in DETAILS if detail.applies(scene)]
    if details and rng.random() < DETAIL_SHARE:
        phrases.append(_pick(rng, details[int(rng.integers(len(details)))]))
    motion = next((ending for ending in MOTION_PHRASES[scene.motion] if ending and text.endswith(f", {ending}")), "")
    return ", ".join(part for part in (text.removesuffix(f", {motion}") if motion else text, *phrases, motion) if part)


def _pick(rng: np.random.Generator, detail: Detail) -> str:
    return detail.phrases[int(rng.integers(len(detail.phrases)))]


def _named_variations(scene: Scene, rng: np.random.Generator) -> list[Detail]:
    """Return the variations that a caption of `scene` names: at most one for the season, the trees and the accent."""
    groups: dict[str, list[Detail]] = {}
    for detail in VARIATIONS:
        if detail.applies(scene):
            groups.setdefault(detail.group, []).append(detail)
    return [group[int(rng.integers(len(group)))] for group in groups.values() if rng.random() < VARIATION_SHARE]
