"""Farmland scenes: low hills, furrows that converge at the horizon, a barn and broad-leaved trees."""

import numpy as np

from training.scenes.canvas import colour, mix
from training.scenes.noise import octaves
from training.scenes.paint_context import PaintContext
from training.scenes.palette import accented, seasonal
from training.scenes.places.trees import round_tree

_FAR_TREES = {"few": 4, "none": 0, "one": 0, "many": 12}
_CROPS = ((0.86, 0.72, 0.26), (0.46, 0.66, 0.22), (0.66, 0.70, 0.26))


def paint(context: PaintContext, rng: np.random.Generator) -> None:
    """Paint hills, furrows, trees and a barn below the horizon of `context`."""
    for distance, rise in ((0.85, 0.045), (0.6, 0.02)):
        hills = octaves(rng, 1.6, 2)
        line = (-rise - 0.03 * hills(context.along(distance))).astype(np.float32)
        grass = mix(colour(0.36, 0.56, 0.30), colour(0.52, 0.62, 0.30), rng.random())
        context.canvas.below(line, context.lit(seasonal(grass, context.scene.season, 0, 0.5), distance))
    _furrows(context, rng)
    leaf = seasonal(colour(0.22, 0.46, 0.18), context.scene.season, 2, 0.85)
    for _ in range(_FAR_TREES[context.scene.trees]):
        where, size = rng.uniform(-0.9, 0.9), rng.uniform(0.09, 0.14)
        round_tree(
            context,
            context.at(where, 0.5),
            0.012 + 0.01 * rng.random(),
            size,
            context.lit(leaf, 0.45, 0.4),
            distance=0.45,
        )
    _barn(context, rng)
    where, size = rng.choice((-1, 1)) * rng.uniform(0.24, 0.40), rng.uniform(0.26, 0.36)
    if context.scene.trees != "none":
        leaves = context.lit(leaf, 0.05, 0.4)
        round_tree(context, context.at(where, 0.1), context.down(0.45), size, leaves, distance=0.05)


def _furrows(context: PaintContext, rng: np.random.Generator) -> None:
    canvas = context.canvas
    crop = colour(*_CROPS[rng.integers(len(_CROPS))])
    vanish = rng.uniform(-0.25, 0.25)
    bright, dark = context.lit(crop, 0.15, 0.92), context.lit(crop * np.float32(0.66), 0.1, 0.72)
    start = int(np.searchsorted(canvas.v, 0.0))
    rows = slice(start, None)
    down = canvas.v[rows, None] + np.float32(0.05)
    angle = (context.along(0.3)[None, :] - np.float32(vanish)) / down
    stripe = 0.5 + 0.5 * np.sin(angle * np.float32(2 * np.pi * 0.9))
    # Distant furrows are narrower than a pixel, so they are blended into their mean colour to avoid aliasing.
    fade = np.clip((down - 0.05) * 9, 0, 1)
    share = np.clip((stripe - 0.5) * 2.2 + 0.5, 0, 1) * fade + 0.4 * (1 - fade)
    canvas.blend(np.ones((1, 1), np.float32), bright[:, None, None] + (dark - bright)[:, None, None] * share, rows)


def _barn(context: PaintContext, rng: np.random.Generator) -> None:
    canvas, distance = context.canvas, 0.3
    where, size = rng.uniform(-0.28, 0.28), rng.uniform(0.13, 0.18)
    u, base = context.at(where, distance), context.down(0.10) + 0.02
    paint_ = accented(colour(0.72, 0.20, 0.15), context.scene.accent)
    wall, roof = context.lit(paint_, 0.2, 0.0), context.lit(colour(0.36, 0.30, 0.32), 0.2, 0.95)
    half, eaves, ridge = 0.5 * size, base - 0.42 * size, base - 0.80 * size
    canvas.rectangle(u - half, eaves, u + half, base, wall)
    canvas.polygon(
        (
            (u - 0.36 * size, ridge),
            (u + 0.36 * size, ridge),
            (u + 0.6 * size, eaves + 0.03 * size),
            (u - 0.6 * size, eaves + 0.03 * size),
        ),
        roof,
    )
    door = context.lit(colour(0.93, 0.90, 0.84), 0.2, 0.0)
    lamp = colour(1.0, 0.84, 0.42)
    pane = lamp if context.palette.lamps > 0.25 else context.lit(colour(0.30, 0.34, 0.42), 0.2, 0.0)
    canvas.rectangle(u - 0.11 * size, base - 0.30 * size, u + 0.11 * size, base, door)
    for side in (-0.32, 0.32):
        canvas.rectangle(
            u + (side - 0.08) * size, base - 0.30 * size, u + (side + 0.08) * size, base - 0.15 * size, pane
        )
