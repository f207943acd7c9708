"""Mountain scenes: a pale distant range, peaks with lit and shaded faces and snow caps, and hills with firs."""

import numpy as np

from training.scenes.canvas import colour, mix
from training.scenes.noise import Array, octaves, value_noise
from training.scenes.paint_context import PaintContext
from training.scenes.palette import seasonal
from training.scenes.places.trees import conifer, tree_line


def paint(context: PaintContext, rng: np.random.Generator) -> None:
    """Paint mountains and hills below the horizon of `context`."""
    _far_range(context, rng)
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
        _peak(context, rng, middle, tall)
    _hills(context, rng)


def _far_range(context: PaintContext, rng: np.random.Generator) -> None:
    outline = octaves(rng, 4.0, 4, 0.5, smooth=False)
    line = -0.12 - 0.07 * outline(context.along(0.95))
    context.canvas.below(line, context.lit(colour(0.50, 0.56, 0.70), 0.95, 0.6))


def _peak(context: PaintContext, rng: np.random.Generator, middle: float, height: float) -> None:
    canvas, distance = context.canvas, 0.55
    slope_left, slope_right = rng.uniform(0.72, 1.0, 2)
    jag, wobble, ragged = (
        octaves(rng, 9.0, 3, 0.5, smooth=False),
        value_noise(rng, 9.0, smooth=False),
        value_noise(rng, 13.0, smooth=False),
    )
    cap = height * (rng.uniform(0.40, 0.62) + 0.6 * context.palette.white)
    at = context.along(distance) - np.float32(middle)
    rise = np.where(at < 0, slope_left, slope_right).astype(np.float32) * np.abs(at)
    line = (-height + rise + 0.022 * jag(at) * np.minimum(1, rise * 14)).astype(np.float32)
    start = int(np.searchsorted(canvas.v, -height - 0.02))
    down = canvas.v[start:, None]
    below_top = down + np.float32(height)
    # A zigzag ridge divides each peak into two faces; the face turned away from the light is shaded.
    crest = 0.07 * wobble(below_top[:, 0])[:, None] * np.minimum(1, 6 * below_top) + 0.10 * below_top
    side: Array = canvas.cover(at[None, :] - crest)
    if context.light.u > context.at(middle, distance):
        side = 1 - side
    rock, shade = (
        context.lit(colour(0.47, 0.45, 0.50), distance, 0.55),
        context.lit(colour(0.30, 0.31, 0.40), distance, 0.35),
    )
    snow = context.palette.lit(rock, 0.3 * distance, 1.0)
    blue = mix(snow * np.float32(0.80), context.palette.sky_mid, 0.28)
    snow = mix(snow, context.palette.sun, 0.16 * context.palette.sun_strength)
    edge = (
        np.float32(cap)
        + 0.05 * ragged(at)[None, :]
        - 0.25 * np.abs(at)[None, :] * (1 - np.float32(context.palette.white))
    )
    covered = canvas.cover(edge - below_top)
    land = rock[:, None, None] + (shade - rock)[:, None, None] * side
    white = snow[:, None, None] + (blue - snow)[:, None, None] * side
    canvas.blend(canvas.cover(down - line[None, :]), land + (white - land) * covered, slice(start, None))


def _hills(context: PaintContext, rng: np.random.Generator) -> None:
    for share, distance, size in ((0.10, 0.35, 0.05), (0.48, 0.12, 0.10), (0.82, 0.0, 0.15)):
        ground = octaves(rng, 2.2, 2)
        base = context.down(share)
        meadow = mix(colour(0.20, 0.42, 0.26), colour(0.30, 0.48, 0.24), rng.random())
        green = context.lit(seasonal(meadow, context.scene.season, 0, 0.7), distance, 0.85)
        firs = context.lit(colour(0.10, 0.26, 0.20), distance, 0.25)
        at = context.along(distance)
        line = (base - 0.035 * ground(at)).astype(np.float32)
        if size < 0.1:
            context.canvas.below(line - tree_line(rng, at, 0.045, size), firs)
        context.canvas.below(line, green)
        for where in rng.uniform(-1.4, 1.4, 9 if size >= 0.1 else 0):
            foot = float(base - 0.035 * ground(np.array([where], np.float32))[0])
            conifer(
                context,
                context.at(where, distance),
                foot + 0.012,
                size * rng.uniform(0.8, 1.3),
                firs,
                distance=distance,
            )
