"""Renderer of scenes: combines sky, land and weather into an image."""

import numpy as np
import numpy.typing as npt

from training.scenes import sky
from training.scenes.canvas import Canvas
from training.scenes.labels import Camera, Scene
from training.scenes.paint_context import PaintContext
from training.scenes.palette import palette_of
from training.scenes.places import city, desert, field, forest, mountain, sea
from training.scenes.weather import paint_weather

Image = npt.NDArray[np.uint8]

_VIEWS: dict[Camera, tuple[float, float]] = {
    "wide": (0.60, 1.0),
    "close": (0.64, 1.5),
    "aerial": (0.38, 0.85),
}
_PLACES = {
    "mountain": mountain.paint,
    "sea": sea.paint,
    "desert": desert.paint,
    "forest": forest.paint,
    "city": city.paint,
    "field": field.paint,
}


def render(scene: Scene, width: int = 256, height: int = 256, moment: float = 0.0) -> Image:
    """Render a scene as uint8 [H, W, 3]; `moment` in [0, 1] is the time within its motion."""
    layout, air, land, falling = (np.random.default_rng((scene.seed, part)) for part in (2, 3, 4, 5))
    horizon, zoom = _VIEWS[scene.camera]
    horizon += layout.uniform(-0.03, 0.03)
    zoom *= layout.uniform(0.92, 1.08)
    hour = layout.uniform(-0.10, 0.10)
    motion = scene.motion
    if motion in ("zoom", "zoom_out"):
        zoom *= 1 + 0.35 * (moment if motion == "zoom" else 1 - moment)
    if motion == "sunset":
        hour += 0.22 * (moment - 0.5)
    canvas = Canvas(width, height, horizon, zoom)
    palette = palette_of(scene, hour)
    light = sky.place_light(scene, layout, 0.16 * moment if motion == "sunset" else 0.0)
    sky.paint_sky(canvas, scene, palette, light, air)
    sky.paint_clouds(canvas, scene, palette, air, 0.30 * moment if motion == "drift" else 0.04 * moment)
    direction = {"pan": 1, "pan_left": -1}.get(motion, 0)
    context = PaintContext(canvas, scene, palette, light, 0.35 * moment * direction)
    paint_land = _PLACES[scene.place]
    paint_land(context, land)
    paint_weather(context, falling, moment)
    return canvas.image()


def render_motion(scene: Scene, num_frames: int, width: int = 256, height: int = 256) -> Image:
    """Render `num_frames` evenly spaced moments of a scene's motion as uint8 [F, H, W, 3]."""
    moments = np.linspace(0, 1, num_frames)
    return np.stack([render(scene, width, height, float(moment)) for moment in moments])
