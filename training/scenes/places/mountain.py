"""Mountains: a pale far range, great peaks with lit and shaded faces and snow caps, hills with firs."""

import numpy as np

from training.scenes.canvas import colour, mix
from training.scenes.noise import Array, octaves, value_noise
from training.scenes.places.trees import conifer, tree_line
from training.scenes.stage import Stage


def paint(stage: Stage, rng: np.random.Generator) -> None:
    """Paint the land."""
    _far_range(stage, rng)
    centre, height = rng.uniform(-0.14, 0.14), rng.uniform(0.34, 0.42)
    sides = [
        (centre - rng.uniform(0.36, 0.55), rng.uniform(0.20, 0.29)),
        (centre + rng.uniform(0.36, 0.55), rng.uniform(0.20, 0.29)),
    ]
    outer = [
        (centre - rng.uniform(0.9, 1.2), rng.uniform(0.2, 0.34)),
        (centre + rng.uniform(0.9, 1.2), rng.uniform(0.2, 0.34)),
    ]
    for middle, tall in (*outer, (centre, height), *sides):
        _peak(stage, rng, middle, tall)
    _hills(stage, rng)


def _far_range(stage: Stage, rng: np.random.Generator) -> None:
    outline = octaves(rng, 4.0, 4, 0.5, smooth=False)
    line = -0.12 - 0.07 * outline(stage.along(0.95))
    stage.canvas.below(line, stage.lit(colour(0.50, 0.56, 0.70), 0.95, 0.6))


def _peak(stage: Stage, rng: np.random.Generator, middle: float, height: float) -> None:
    canvas, distance = stage.canvas, 0.55
    slope_left, slope_right = rng.uniform(0.72, 1.0, 2)
    jag, wobble, ragged = (
        octaves(rng, 9.0, 3, 0.5, smooth=False),
        value_noise(rng, 9.0, smooth=False),
        value_noise(rng, 13.0, smooth=False),
    )
    cap = height * (rng.uniform(0.40, 0.62) + 0.6 * stage.mood.white)
    at = stage.along(distance) - np.float32(middle)
    rise = np.where(at < 0, slope_left, slope_right).astype(np.float32) * np.abs(at)
    line = (-height + rise + 0.022 * jag(at) * np.minimum(1, rise * 14)).astype(np.float32)
    start = int(np.searchsorted(canvas.v, -height - 0.02))
    down = canvas.v[start:, None]
    below_top = down + np.float32(height)
    # The crest runs down from the summit, zigzag; which face it darkens depends on where the light stands.
    crest = 0.07 * wobble(below_top[:, 0])[:, None] * np.minimum(1, 6 * below_top) + 0.10 * below_top
    side: Array = canvas.cover(at[None, :] - crest)
    if stage.light.u > stage.at(middle, distance):
        side = 1 - side
    rock, shade = (
        stage.lit(colour(0.47, 0.45, 0.50), distance, 0.55),
        stage.lit(colour(0.30, 0.31, 0.40), distance, 0.35),
    )
    snow = stage.mood.lit(rock, 0.3 * distance, 1.0)
    blue = mix(snow * np.float32(0.80), stage.mood.sky_mid, 0.28)
    snow = mix(snow, stage.mood.sun, 0.16 * stage.mood.sun_strength)
    edge = (
        np.float32(cap) + 0.05 * ragged(at)[None, :] - 0.25 * np.abs(at)[None, :] * (1 - np.float32(stage.mood.white))
    )
    covered = canvas.cover(edge - below_top)
    land = rock[:, None, None] + (shade - rock)[:, None, None] * side
    white = snow[:, None, None] + (blue - snow)[:, None, None] * side
    canvas.blend(canvas.cover(down - line[None, :]), land + (white - land) * covered, slice(start, None))


def _hills(stage: Stage, rng: np.random.Generator) -> None:
    for share, distance, size in ((0.10, 0.35, 0.05), (0.48, 0.12, 0.10), (0.82, 0.0, 0.15)):
        ground = octaves(rng, 2.2, 2)
        base = stage.down(share)
        green = stage.lit(mix(colour(0.20, 0.42, 0.26), colour(0.30, 0.48, 0.24), rng.random()), distance, 0.85)
        firs = stage.lit(colour(0.10, 0.26, 0.20), distance, 0.25)
        at = stage.along(distance)
        line = (base - 0.035 * ground(at)).astype(np.float32)
        if size < 0.1:
            stage.canvas.below(line - tree_line(rng, at, 0.045, size), firs)
        stage.canvas.below(line, green)
        for where in rng.uniform(-1.4, 1.4, 9 if size >= 0.1 else 0):
            foot = float(base - 0.035 * ground(np.array([where], np.float32))[0])
            conifer(
                stage,
                stage.at(where, distance),
                foot + 0.012,
                size * rng.uniform(0.8, 1.3),
                firs,
                distance=distance,
            )
