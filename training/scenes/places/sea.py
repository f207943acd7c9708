"""Sea scenes: waves in perspective, the reflection of the sun or moon, a headland, a boat, sometimes a beach."""

import numpy as np

from training.scenes.canvas import colour, mix
from training.scenes.noise import Array, octaves, value_noise
from training.scenes.paint_context import PaintContext
from training.scenes.palette import accented


def paint(context: PaintContext, rng: np.random.Generator) -> None:
    """Paint the sea, and sometimes a beach, below the horizon of `context`."""
    _headland(context, rng)
    _water(context, rng)
    _boat(context, rng)
    if rng.random() < 0.35:
        _beach(context, rng)


def _headland(context: PaintContext, rng: np.random.Generator) -> None:
    side, far = (1 if rng.random() < 0.5 else -1), rng.uniform(0.12, 0.32)
    outline = octaves(rng, 5.0, 3)
    at = context.along(0.8) * np.float32(side)
    tall = np.clip((at - far) * 0.35, 0, 0.10)
    line = np.where(tall > 0, -tall * (1 + 0.5 * outline(at)), 1.0).astype(np.float32)
    context.canvas.below(line, context.lit(colour(0.30, 0.40, 0.40), 0.8), depth=0.2)


def _water(context: PaintContext, rng: np.random.Generator) -> None:
    canvas, palette = context.canvas, context.palette
    start = int(np.searchsorted(canvas.v, -1 / canvas.pixels))
    rows = slice(start, None)
    down: Array = np.maximum(canvas.v[rows], np.float32(1e-3))[:, None]
    deep = mix(colour(0.05, 0.36, 0.56) * palette.light, palette.sky_top, 0.15)
    shallow = mix(palette.sky_low * np.float32(0.86), deep, 0.30)
    share = np.clip(down / 0.36, 0, 1) ** 0.7
    water = (shallow[:, None, None] + (deep - shallow)[:, None, None] * share).astype(np.float32)
    canvas.blend(canvas.cover(np.broadcast_to(canvas.v[rows, None], (down.shape[0], canvas.width))), water, rows)
    # Wave crests: dashes whose size and spacing grow towards the viewer.
    depth = np.log(down + 0.03) * 7
    phase = depth + 0.3 * value_noise(rng, 0.7)(depth)
    band = np.floor(phase)
    dashes = value_noise(rng, 1.0)
    across = context.along(0.4)[None, :]
    pattern = dashes((across * (4.5 + 0.6 / (down + 0.03)) + 17.3 * band).astype(np.float32))
    inside = np.minimum(1, 4 * np.abs(phase - band - 0.5) ** 2)
    crest = np.clip((pattern - 0.25 - 0.6 * inside) * 4, 0, 1) * np.clip(down * 9, 0.25, 1)
    canvas.blend((0.26 * crest).astype(np.float32), mix(palette.sky_low, colour(1, 1, 1), 0.25), rows)
    if palette.sun_strength > 0:
        width = 0.035 + 0.30 * down
        near = np.clip(1.25 - np.abs(canvas.u[None, :] - np.float32(context.light.u)) / width, 0, 1)
        glitter = np.clip((pattern + 1.25 * near - 0.75 - 0.5 * inside) * 3.0, 0, 1) * np.minimum(1, near * 2)
        canvas.blend(
            (0.85 * palette.sun_strength * glitter).astype(np.float32),
            mix(palette.sun, colour(1, 1, 1), 0.15),
            rows,
        )


def _boat(context: PaintContext, rng: np.random.Generator) -> None:
    where, share, size = rng.uniform(-0.36, 0.36), rng.uniform(0.10, 0.42), rng.uniform(0.09, 0.15)
    if rng.random() < 0.35 and context.scene.accent == "usual":
        return
    canvas, distance = context.canvas, 0.3
    u, v = context.at(where, distance), context.down(share)
    size *= 0.6 + share
    cloth = accented(colour(0.97, 0.95, 0.90), context.scene.accent)
    hull, sail = context.lit(colour(0.55, 0.20, 0.16), 0.1, 0.0), context.lit(cloth, 0.1)
    shade = sail * np.float32(0.8)
    canvas.polygon(
        (
            (u - 0.42 * size, v - 0.14 * size),
            (u + 0.46 * size, v - 0.14 * size),
            (u + 0.3 * size, v),
            (u - 0.28 * size, v),
        ),
        hull,
    )
    canvas.polygon(
        ((u + 0.02 * size, v - size), (u + 0.42 * size, v - 0.2 * size), (u + 0.02 * size, v - 0.2 * size)),
        sail,
    )
    canvas.polygon(
        (
            (u - 0.03 * size, v - 0.85 * size),
            (u - 0.03 * size, v - 0.2 * size),
            (u - 0.34 * size, v - 0.2 * size),
        ),
        shade,
    )


def _beach(context: PaintContext, rng: np.random.Generator) -> None:
    edge, at = octaves(rng, 1.6, 2), context.along(0.1)
    line = (context.down(rng.uniform(0.70, 0.80)) + 0.05 * edge(at)).astype(np.float32)
    context.canvas.below(line - 0.018, context.lit(colour(0.92, 0.96, 0.97), 0.1))
    context.canvas.below(line, context.lit(colour(0.90, 0.78, 0.55), 0.05))
