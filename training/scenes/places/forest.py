"""Forest scenes: rows of conifers, pale and small in the distance, dark and large in front, and a clearing."""

import numpy as np

from training.scenes.canvas import Colour, colour, mix
from training.scenes.noise import octaves
from training.scenes.paint_context import PaintContext
from training.scenes.palette import seasonal
from training.scenes.places.trees import conifer, tree_line


def paint(context: PaintContext, rng: np.random.Generator) -> None:
    """Paint rows of trees and a clearing below the horizon of `context`."""
    hue = rng.random()
    for share, distance, height in (
        (-0.10, 0.95, 0.09),
        (0.02, 0.75, 0.13),
        (0.18, 0.55, 0.17),
        (0.36, 0.38, 0.22),
    ):
        ground, at = octaves(rng, 2.0, 2), context.along(distance)
        line = (context.down(share) - 0.03 * ground(at)).astype(np.float32)
        paint_ = context.lit(_green(context, hue, 0.75 + 0.25 * distance), distance, 0.30)
        context.canvas.below(line - tree_line(rng, at, 0.36 * height, height), paint_)
    _clearing(context, rng, hue)


def _green(context: PaintContext, hue: float, bright: float) -> Colour:
    green = mix(colour(0.09, 0.34, 0.22), colour(0.20, 0.40, 0.16), hue)
    return seasonal(green, context.scene.season, int(hue < 0.5)) * np.float32(bright)


def _clearing(context: PaintContext, rng: np.random.Generator, hue: float) -> None:
    ground, at = octaves(rng, 1.8, 2), context.along(0.1)
    line = (context.down(0.66) - 0.02 * ground(at)).astype(np.float32)
    summer = mix(colour(0.28, 0.46, 0.20), colour(0.36, 0.48, 0.22), hue)
    grass = context.lit(seasonal(summer, context.scene.season, 0, 0.5), 0.1, 0.9)
    paint_ = context.lit(_green(context, hue, 0.72), 0.15, 0.2)
    for where in np.arange(-1.5, 1.5, 0.16) + rng.uniform(-0.05, 0.05, 19):
        height = rng.uniform(0.26, 0.36)
        conifer(context, context.at(where, 0.2), context.down(0.60) + 0.02 * rng.random(), height, paint_, distance=0.2)
    context.canvas.below(line, grass)
    near = context.lit(_green(context, hue, 0.55), 0.0, 0.2)
    for where in (*rng.uniform(-0.55, -0.30, 2), *rng.uniform(0.30, 0.55, 2), -1.0, 1.0):
        height = rng.uniform(0.50, 0.68)
        conifer(context, context.at(where, 0.0), context.down(0.90), height, near, distance=0.0)
