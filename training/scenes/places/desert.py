"""The desert: far table mountains, dunes with a lit and a shaded slope, cacti."""

import numpy as np

from training.scenes.canvas import Colour, colour, mix
from training.scenes.noise import octaves, value_noise
from training.scenes.stage import Stage


def paint(stage: Stage, rng: np.random.Generator) -> None:
    """Paint the land."""
    _mesas(stage, rng)
    for share, distance, swell in (
        (0.04, 0.6, 0.035),
        (0.22, 0.35, 0.06),
        (0.50, 0.15, 0.08),
        (0.82, 0.0, 0.08),
    ):
        _dune(stage, rng, share, distance, swell)
        if 0 < distance < 0.5:
            for _ in range(2):
                _cactus(stage, rng, share, distance)


def _mesas(stage: Stage, rng: np.random.Generator) -> None:
    outline = value_noise(rng, 3.2)
    raised = np.clip((outline(stage.along(0.9)) - 0.15) * 5, 0, 1)
    line = (0.02 - (0.06 + 0.05 * rng.random()) * raised).astype(np.float32)
    stage.canvas.below(line, stage.lit(colour(0.72, 0.44, 0.36), 0.9))


def _dune(stage: Stage, rng: np.random.Generator, share: float, distance: float, swell: float) -> None:
    shape, at = octaves(rng, 1.5 + 1.5 * distance, 2, 0.35), stage.along(distance)
    base = stage.down(share)
    line = (base - swell * shape(at)).astype(np.float32)
    step = np.float32(0.02)
    slope = (shape((at + step).astype(np.float32)) - shape((at - step).astype(np.float32))) / (2 * step)
    away = -1 if stage.light.u > 0 else 1
    sand = mix(colour(0.95, 0.73, 0.42), colour(0.90, 0.62, 0.36), rng.random())
    stage.canvas.below(line, stage.lit(sand, distance, 0.8))
    shade = stage.lit(sand * np.float32(0.70), distance, 0.65)
    stage.canvas.below(line, shade, depth=(np.clip(-away * slope, 0, None) * swell * 0.55 - 0.004).astype(np.float32))


def _cactus(stage: Stage, rng: np.random.Generator, share: float, distance: float) -> None:
    where, size, lift, turn = (
        rng.uniform(-0.55, 0.55),
        rng.uniform(0.13, 0.20),
        rng.random(),
        rng.random() < 0.5,
    )
    size *= 1.15 - 1.2 * distance
    u, foot = stage.at(where, distance), stage.down(share) + 0.06
    green = stage.lit(colour(0.20, 0.42, 0.24), distance, 0.15)
    _rounded(stage, u, foot - size, foot, half=0.085 * size, paint=green)
    for side, height in ((1 if turn else -1, 0.40 + 0.1 * lift), (-1 if turn else 1, 0.55 + 0.1 * lift)):
        elbow = u + side * 0.24 * size
        stage.canvas.rectangle(
            min(u, elbow), foot - (height + 0.05) * size, max(u, elbow), foot - (height - 0.06) * size, green
        )
        _rounded(stage, elbow, foot - (height + 0.26) * size, foot - height * size, half=0.06 * size, paint=green)


def _rounded(
    stage: Stage,
    u: float,
    top: float,
    bottom: float,
    *,
    half: float,
    paint: Colour,
) -> None:
    stage.canvas.rectangle(u - half, top, u + half, bottom, paint)
    stage.canvas.disc(u, top, half, paint)
    stage.canvas.disc(u, bottom, half, paint)
