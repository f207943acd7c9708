"""Farmland: low hills, furrows that run to the horizon, a barn, round trees."""

import numpy as np

from training.scenes.canvas import colour, mix
from training.scenes.noise import octaves
from training.scenes.places.trees import round_tree
from training.scenes.stage import Stage

_CROPS = ((0.86, 0.72, 0.26), (0.46, 0.66, 0.22), (0.66, 0.70, 0.26))


def paint(stage: Stage, rng: np.random.Generator) -> None:
    """Paint the land."""
    for distance, rise in ((0.85, 0.045), (0.6, 0.02)):
        hills = octaves(rng, 1.6, 2)
        line = (-rise - 0.03 * hills(stage.along(distance))).astype(np.float32)
        stage.canvas.below(
            line, stage.lit(mix(colour(0.36, 0.56, 0.30), colour(0.52, 0.62, 0.30), rng.random()), distance)
        )
    _furrows(stage, rng)
    leaf = colour(0.22, 0.46, 0.18)
    for _ in range(4):
        where, size = rng.uniform(-0.9, 0.9), rng.uniform(0.09, 0.14)
        round_tree(
            stage,
            stage.at(where, 0.5),
            0.012 + 0.01 * rng.random(),
            size,
            stage.lit(leaf, 0.45, 0.4),
            distance=0.45,
        )
    _barn(stage, rng)
    where, size = rng.choice((-1, 1)) * rng.uniform(0.24, 0.40), rng.uniform(0.26, 0.36)
    round_tree(stage, stage.at(where, 0.1), stage.down(0.45), size, stage.lit(leaf, 0.05, 0.4), distance=0.05)


def _furrows(stage: Stage, rng: np.random.Generator) -> None:
    canvas = stage.canvas
    crop = colour(*_CROPS[rng.integers(len(_CROPS))])
    vanish = rng.uniform(-0.25, 0.25)
    bright, dark = stage.lit(crop, 0.15, 0.92), stage.lit(crop * np.float32(0.66), 0.1, 0.72)
    start = int(np.searchsorted(canvas.v, 0.0))
    rows = slice(start, None)
    down = canvas.v[rows, None] + np.float32(0.05)
    angle = (stage.along(0.3)[None, :] - np.float32(vanish)) / down
    stripe = 0.5 + 0.5 * np.sin(angle * np.float32(2 * np.pi * 0.9))
    # Far furrows are narrower than a pixel: they fade to their mean.
    fade = np.clip((down - 0.05) * 9, 0, 1)
    share = np.clip((stripe - 0.5) * 2.2 + 0.5, 0, 1) * fade + 0.4 * (1 - fade)
    canvas.blend(np.ones((1, 1), np.float32), bright[:, None, None] + (dark - bright)[:, None, None] * share, rows)


def _barn(stage: Stage, rng: np.random.Generator) -> None:
    canvas, distance = stage.canvas, 0.3
    where, size = rng.uniform(-0.28, 0.28), rng.uniform(0.13, 0.18)
    u, base = stage.at(where, distance), stage.down(0.10) + 0.02
    wall, roof = stage.lit(colour(0.72, 0.20, 0.15), 0.2, 0.0), stage.lit(colour(0.36, 0.30, 0.32), 0.2, 0.95)
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
    door = stage.lit(colour(0.93, 0.90, 0.84), 0.2, 0.0)
    lamp = colour(1.0, 0.84, 0.42)
    pane = lamp if stage.mood.lamps > 0.25 else stage.lit(colour(0.30, 0.34, 0.42), 0.2, 0.0)
    canvas.rectangle(u - 0.11 * size, base - 0.30 * size, u + 0.11 * size, base, door)
    for side in (-0.32, 0.32):
        canvas.rectangle(
            u + (side - 0.08) * size, base - 0.30 * size, u + (side + 0.08) * size, base - 0.15 * size, pane
        )
