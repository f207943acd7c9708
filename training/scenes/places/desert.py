"""Desert scenes: distant mesas, dunes with a lit and a shaded slope, and cacti."""

import numpy as np

from training.scenes.canvas import Colour, colour, mix
from training.scenes.noise import octaves, value_noise
from training.scenes.paint_context import PaintContext


def paint(context: PaintContext, rng: np.random.Generator) -> None:
    """Paint mesas, dunes and cacti below the horizon of `context`."""
    _mesas(context, rng)
    for share, distance, swell in (
        (0.04, 0.6, 0.035),
        (0.22, 0.35, 0.06),
        (0.50, 0.15, 0.08),
        (0.82, 0.0, 0.08),
    ):
        _dune(context, rng, share, distance, swell)
        if 0 < distance < 0.5:
            for _ in range(2):
                _cactus(context, rng, share, distance)


def _mesas(context: PaintContext, rng: np.random.Generator) -> None:
    outline = value_noise(rng, 3.2)
    raised = np.clip((outline(context.along(0.9)) - 0.15) * 5, 0, 1)
    line = (0.02 - (0.06 + 0.05 * rng.random()) * raised).astype(np.float32)
    context.canvas.below(line, context.lit(colour(0.72, 0.44, 0.36), 0.9))


def _dune(context: PaintContext, rng: np.random.Generator, share: float, distance: float, swell: float) -> None:
    shape, at = octaves(rng, 1.5 + 1.5 * distance, 2, 0.35), context.along(distance)
    base = context.down(share)
    line = (base - swell * shape(at)).astype(np.float32)
    step = np.float32(0.02)
    slope = (shape((at + step).astype(np.float32)) - shape((at - step).astype(np.float32))) / (2 * step)
    away = -1 if context.light.u > 0 else 1
    sand = mix(colour(0.95, 0.73, 0.42), colour(0.90, 0.62, 0.36), rng.random())
    context.canvas.below(line, context.lit(sand, distance, 0.8))
    shade = context.lit(sand * np.float32(0.70), distance, 0.65)
    context.canvas.below(line, shade, depth=(np.clip(-away * slope, 0, None) * swell * 0.55 - 0.004).astype(np.float32))


def _cactus(context: PaintContext, rng: np.random.Generator, share: float, distance: float) -> None:
    where, size, lift, turn = (
        rng.uniform(-0.55, 0.55),
        rng.uniform(0.13, 0.20),
        rng.random(),
        rng.random() < 0.5,
    )
    size *= 1.15 - 1.2 * distance
    u, foot = context.at(where, distance), context.down(share) + 0.06
    green = context.lit(colour(0.20, 0.42, 0.24), distance, 0.15)
    _rounded(context, u, foot - size, foot, half=0.085 * size, paint=green)
    for side, height in ((1 if turn else -1, 0.40 + 0.1 * lift), (-1 if turn else 1, 0.55 + 0.1 * lift)):
        elbow = u + side * 0.24 * size
        context.canvas.rectangle(
            min(u, elbow), foot - (height + 0.05) * size, max(u, elbow), foot - (height - 0.06) * size, green
        )
        _rounded(context, elbow, foot - (height + 0.26) * size, foot - height * size, half=0.06 * size, paint=green)


def _rounded(
    context: PaintContext,
    u: float,
    top: float,
    bottom: float,
    *,
    half: float,
    paint: Colour,
) -> None:
    context.canvas.rectangle(u - half, top, u + half, bottom, paint)
    context.canvas.disc(u, top, half, paint)
    context.canvas.disc(u, bottom, half, paint)
