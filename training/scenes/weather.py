"""Weather in front of the land: fog banks, rain and snow."""

import numpy as np

from training.scenes.canvas import colour, mix
from training.scenes.noise import octaves
from training.scenes.paint_context import PaintContext


def paint_weather(context: PaintContext, rng: np.random.Generator, moment: float) -> None:
    """Paint the weather of the scene over the finished land. `moment` in [0, 1] moves raindrops, snowflakes and fog."""
    match context.scene.weather:
        case "fog":
            _fog(context, rng, moment)
        case "rain":
            _rain(context, rng, moment)
        case "snow":
            _snow(context, rng, moment)
        case _:
            pass


def _fog(context: PaintContext, rng: np.random.Generator, moment: float) -> None:
    canvas, haze = context.canvas, mix(context.palette.haze, context.palette.sky_low, 0.4)
    veil = 0.20 + 0.55 * np.exp(-(((canvas.v - 0.0) / 0.16) ** 2))
    for centre, thick, strength in ((-0.10, 0.05, 0.35), (0.07, 0.045, 0.40), (0.22, 0.05, 0.30)):
        bank = octaves(rng, 1.6, 2)
        middle = centre + 0.035 * bank((canvas.u + np.float32(0.25 * moment)).astype(np.float32))
        away = (canvas.v[:, None] - middle[None, :]) / np.float32(thick)
        canvas.blend((strength * np.exp(-(away**2))).astype(np.float32), haze)
    canvas.blend(veil.astype(np.float32)[:, None], haze)


def _rain(context: PaintContext, rng: np.random.Generator, moment: float) -> None:
    canvas = context.canvas
    drop = mix(context.palette.sky_low, colour(0.92, 0.95, 1.0), 0.55)
    high, wide = canvas.bottom - canvas.top, canvas.right - canvas.left
    zoom = canvas.pixels / min(canvas.width, canvas.height)
    for across, down, size in rng.random((36, 3)):
        length, half = (0.09 + 0.06 * size) / zoom, 0.0055 / zoom
        v = canvas.top + ((down + 2.0 * moment) % 1.0) * (high + length) - length
        u = canvas.left + across * wide * 1.1 - 0.05 * wide
        lean = 0.28 * length
        canvas.polygon(
            ((u + lean - half, v), (u + lean + half, v), (u + half, v + length), (u - half, v + length)),
            drop,
            0.45,
        )


def _snow(context: PaintContext, rng: np.random.Generator, moment: float) -> None:
    canvas = context.canvas
    flake = mix(colour(1, 1, 1), context.palette.sky_low, 0.12)
    high, wide = canvas.bottom - canvas.top, canvas.right - canvas.left
    zoom = canvas.pixels / min(canvas.width, canvas.height)
    for across, down, size, sway in rng.random((42, 4)):
        v = canvas.top + ((down + 0.2 * moment * (0.7 + 0.6 * size)) % 1.0) * high
        u = canvas.left + ((across + 0.03 * np.sin(6.3 * (sway + moment))) % 1.0) * wide
        canvas.disc(u, v, (0.0085 + 0.006 * size) / zoom, flake, opacity=0.9)
