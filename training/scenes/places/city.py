"""City scenes: three rows of towers, with lit windows at dusk and night, and their reflection in water."""

import numpy as np

from training.scenes.canvas import Colour, colour, mix
from training.scenes.noise import value_noise
from training.scenes.paint_context import PaintContext

_WALLS = ((0.42, 0.47, 0.56), (0.60, 0.52, 0.48), (0.36, 0.42, 0.50), (0.66, 0.62, 0.58), (0.50, 0.38, 0.36))


def paint(context: PaintContext, rng: np.random.Generator) -> None:
    """Paint towers and their reflection in the water below the horizon of `context`."""
    quay = context.down(0.42)
    for distance, base, tall, wide in (
        (0.85, 0.02, 0.20, 0.075),
        (0.5, 0.5 * quay, 0.30, 0.12),
        (0.15, quay, 0.34, 0.17),
    ):
        _row(context, rng, distance, base=base, tall=tall, wide=wide)
    context.canvas.rectangle(-9, quay - 0.012, 9, quay + 0.006, context.lit(colour(0.40, 0.38, 0.38), 0.1))
    _mirror(context, rng, quay)


def _row(
    context: PaintContext, rng: np.random.Generator, distance: float, *, base: float, tall: float, wide: float
) -> None:
    left = -1.6
    while left < 1.6:
        width, height = wide * rng.uniform(0.65, 1.15), tall * rng.uniform(0.40, 1.0)
        wall = context.lit(colour(*_WALLS[rng.integers(len(_WALLS))]), distance, 0.12)
        roof, seed = rng.random(), int(rng.integers(2**31))
        u = context.at(left, distance)
        if context.is_visible(u + width / 2, width):
            _tower(
                context,
                np.random.default_rng(seed),
                (u, base - height, u + width, base),
                wall,
                distance=distance,
                roof=roof,
            )
        left += width + (0.02 if distance > 0.2 else 0.05) * rng.random()


def _tower(
    context: PaintContext,
    rng: np.random.Generator,
    box: tuple[float, float, float, float],
    wall: Colour,
    *,
    distance: float,
    roof: float,
) -> None:
    canvas, (left, top, right, base) = context.canvas, box
    middle, width = (left + right) / 2, right - left
    if roof < 0.25:
        canvas.rectangle(middle - 0.004, top - 0.07, middle + 0.004, top, wall)
    elif roof < 0.5:
        canvas.rectangle(left + 0.2 * width, top - 0.03, right - 0.2 * width, top, wall)
    elif roof < 0.62:
        canvas.polygon(((middle, top - 0.06), (right, top), (left, top)), wall)
    canvas.rectangle(left, top, right, base, wall)
    shade = (left, left + 0.22 * width) if context.light.u > middle else (right - 0.22 * width, right)
    canvas.rectangle(shade[0], top, shade[1], base, wall * np.float32(0.82))
    if context.palette.white:
        canvas.rectangle(left, top - 0.008, right, top + 0.006, context.lit(colour(0.95, 0.97, 1), distance))
    if distance < 0.8:
        _windows(context, rng, box, wall, distance)


def _windows(
    context: PaintContext,
    rng: np.random.Generator,
    box: tuple[float, float, float, float],
    wall: Colour,
    distance: float,
) -> None:
    canvas, (left, top, right, base) = context.canvas, box
    pitch = 0.056 - 0.012 * distance
    across, down = max(2, round((right - left) / pitch)), max(2, round((base - top) / (1.15 * pitch)))
    lit = rng.random((down, across)) < context.palette.lamps
    rows, columns = canvas.box(left, top, right, base)
    wide, high = (right - left) / across, (base - top) / down
    over = np.stack(
        [canvas.span(canvas.v[rows], top + (i + 0.28) * high, top + (i + 0.78) * high) for i in range(down)],
        1,
    )
    along = np.stack(
        [canvas.span(canvas.u[columns], left + (j + 0.25) * wide, left + (j + 0.78) * wide) for j in range(across)],
        0,
    )
    glass = mix(wall * np.float32(0.72), context.palette.sky_mid, 0.25)
    lamp = mix(colour(1.0, 0.84, 0.42), context.palette.haze, 0.5 * context.palette.thickness * distance)
    canvas.blend((over @ (~lit).astype(np.float32) @ along), glass, rows, columns)
    canvas.blend((over @ lit.astype(np.float32) @ along), lamp, rows, columns)


def _mirror(context: PaintContext, rng: np.random.Generator, quay: float) -> None:
    canvas = context.canvas
    start = int(np.searchsorted(canvas.v, quay + 0.006))
    count = min(canvas.height - start, start)
    if count <= 0:
        return
    down = (np.arange(canvas.height - start) / canvas.pixels).astype(np.float32)
    ripple = value_noise(rng, 1.0)
    shift = np.rint(0.006 * canvas.pixels * ripple((22 * np.sqrt(down + 0.01)).astype(np.float32))).astype(np.int64)
    source = np.clip(start - 1 - (np.arange(canvas.height - start) * 1.25).astype(np.int64), 0, None)
    columns = np.clip(np.arange(canvas.width)[None, :] + shift[:, None], 0, canvas.width - 1)
    mirrored = canvas.rgb[:, source[:, None], columns]
    water = mix(colour(0.10, 0.22, 0.34) * context.palette.light, context.palette.sky_mid, 0.2)
    share = np.clip(0.62 + 0.6 * down, 0, 0.85)[None, :, None]
    canvas.rgb[:, start:] = mirrored + (water[:, None, None] - mirrored) * share
