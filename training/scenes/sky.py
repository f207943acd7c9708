"""Sky: colour gradient, stars, sun or moon, and clouds."""

from dataclasses import dataclass

import numpy as np

from training.scenes.canvas import Canvas, Colour, colour, mix
from training.scenes.labels import Scene
from training.scenes.palette import Palette


@dataclass(frozen=True, slots=True)
class Light:
    """Position and radius of the sun or moon in scene units."""

    u: float
    v: float
    radius: float


def place_light(scene: Scene, rng: np.random.Generator, sinking: float) -> Light:
    """Return a random position of the sun or moon: low left at dawn, low right at dusk, otherwise high.

    The position is lowered by `sinking`, in scene units.
    """
    side, height, size = rng.random(3)
    match scene.time:
        case "dawn":
            u, v, radius = -0.12 - 0.2 * side, -0.11 - 0.07 * height, 0.040
        case "dusk":
            u, v, radius = 0.12 + 0.2 * side, -0.10 - 0.07 * height, 0.058
        case "day":
            u, v, radius = -0.34 + 0.68 * side, -0.36 - 0.06 * height, 0.048
        case "night":
            u, v, radius = -0.32 + 0.64 * side, -0.34 - 0.08 * height, 0.042
    if scene.camera == "close":
        u, v = u * 0.75, v * 0.75
    elif scene.camera == "aerial":
        v *= 0.72
    return Light(u, v + sinking, radius * (0.9 + 0.25 * size))


def paint_sky(canvas: Canvas, scene: Scene, palette: Palette, light: Light, rng: np.random.Generator) -> None:
    """Paint the sky without its clouds."""
    top = min(canvas.top, -0.3)
    height = np.clip(canvas.v / top, 0, 1)[:, None]
    low, mid, high = (part[:, None, None] for part in (palette.sky_low, palette.sky_mid, palette.sky_top))
    lower = np.clip(height / 0.42, 0, 1)
    upper = np.clip((height - 0.42) / 0.58, 0, 1)
    canvas.rgb[:] = low + (mid - low) * lower + (high - mid) * upper
    _stars(canvas, palette, rng)
    _light(canvas, palette, light, rng, scene.time == "night")


def _stars(canvas: Canvas, palette: Palette, rng: np.random.Generator) -> None:
    spots = rng.random((48, 4))
    if palette.stars < 0.05:
        return
    for across, up, size, bright in spots[: int(48 * min(1.0, palette.stars + 0.2))]:
        opacity = palette.stars * (0.45 + 0.55 * bright) * min(1.0, 1.4 * up + 0.1)
        canvas.disc(3.0 * across - 1.5, -0.9 * up, 0.0036 + 0.0036 * size**3, colour(1, 1, 0.94), opacity=opacity)


def _light(canvas: Canvas, palette: Palette, light: Light, rng: np.random.Generator, moon: bool) -> None:
    crescent = rng.random()
    if palette.sun_strength == 0:
        return
    strength = palette.sun_strength
    canvas.glow(light.u, light.v, 0.34, palette.sun, (0.10 if moon else 0.42) * strength)
    canvas.glow(light.u, light.v, light.radius * 1.8, palette.sun, (0.45 if moon else 0.8) * strength)
    face = mix(palette.sun, colour(1, 1, 1), 0.25)
    opacity = min(1.0, 0.25 + strength)
    if moon and crescent < 0.5:
        _crescent(canvas, light, face, opacity)
    else:
        canvas.disc(light.u, light.v, light.radius, face, opacity=opacity)


def _crescent(canvas: Canvas, light: Light, face: Colour, opacity: float) -> None:
    radius = light.radius * 1.1
    rows, columns = canvas.box(light.u - radius, light.v - radius, light.u + radius, light.v + radius)
    down, across = canvas.v[rows, None] - light.v, canvas.u[None, columns] - light.u
    full = canvas.cover((radius - np.hypot(down, across)).astype(np.float32))
    dark = canvas.cover((0.9 * radius - np.hypot(down + 0.2 * radius, across - 0.5 * radius)).astype(np.float32))
    canvas.blend(np.float32(opacity) * full * (1 - dark), face, rows, columns)


def paint_clouds(canvas: Canvas, scene: Scene, palette: Palette, rng: np.random.Generator, drift: float) -> None:
    """Paint cumulus clouds in cloudy weather and a low cloud layer in rain and snow; no clouds otherwise."""
    if scene.weather == "clouds":
        for row in range(9):
            _heap(canvas, palette, rng, (row + rng.random()) * 0.34 - 1.5 + drift, -0.14 - 0.30 * rng.random())
    elif scene.weather in ("rain", "snow"):
        dark = palette.sky_top * np.float32(0.78)
        for row in range(14):
            u, v = (
                (row + rng.random()) * 0.22 - 1.5 + drift,
                min(canvas.top, -0.3) + 0.02 + 0.10 * rng.random(),
            )
            canvas.disc(
                u,
                v,
                0.12 + 0.10 * rng.random(),
                mix(dark, palette.sky_mid, 0.5 * rng.random()),
                opacity=0.75,
                soft=0.06,
            )


def _heap(canvas: Canvas, palette: Palette, rng: np.random.Generator, u: float, v: float) -> None:
    size = 0.035 + 0.045 * rng.random()
    puffs = int(rng.integers(4, 7))
    across = (np.arange(puffs) - (puffs - 1) / 2) * size * 1.05
    radii = size * (0.75 + 0.55 * rng.random(puffs)) * (1 - 0.35 * np.abs(np.linspace(-1, 1, puffs)))
    shade = mix(palette.cloud * np.float32(0.80), palette.sky_mid, 0.25)
    rows, columns = canvas.box(u - 6 * size, v - 3 * size, u + 6 * size, v + size)
    down, right = canvas.v[rows, None], canvas.u[None, columns]
    inside = np.full(np.broadcast_shapes(down.shape, right.shape), -1, np.float32)
    for offset, radius in zip(across, radii, strict=True):
        inside = np.maximum(
            inside,
            np.float32(radius) - np.hypot(down - np.float32(v - 0.3 * radius), right - np.float32(u + offset)),
        )
    base = np.float32(v + 0.25 * size) - down
    mask = np.minimum(canvas.cover(inside), canvas.cover(base))
    lower = np.clip((down - np.float32(v - 0.9 * size)) / np.float32(1.1 * size), 0, 1)
    paint = palette.cloud[:, None, None] + (shade - palette.cloud)[:, None, None] * lower
    canvas.blend(np.float32(0.95) * mask, paint.astype(np.float32), rows, columns)
