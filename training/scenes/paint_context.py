"""Context passed to the painters: canvas, palette, and coordinates that take camera panning into account."""

from dataclasses import dataclass

import numpy as np

from training.scenes.canvas import Canvas, Colour
from training.scenes.labels import Scene
from training.scenes.noise import Array
from training.scenes.palette import Palette
from training.scenes.sky import Light


@dataclass(frozen=True, slots=True)
class PaintContext:
    """Canvas and light of one scene. Distances are from 0 (nearest objects) to 1 (horizon)."""

    canvas: Canvas
    scene: Scene
    palette: Palette
    light: Light
    pan: float  # camera movement to the right, in scene units at distance 0

    def along(self, distance: float) -> Array:
        """Return the world position of every pixel column at `distance`, float32 [W]."""
        return (self.canvas.u + np.float32(self.pan * (1 - 0.8 * distance))).astype(np.float32)

    def at(self, position: float, distance: float) -> float:
        """Return the horizontal image coordinate of a world position at `distance`."""
        return position - self.pan * (1 - 0.8 * distance)

    def down(self, share: float) -> float:
        """Return the vertical coordinate at `share` of the way from the horizon to the lower image edge."""
        return self.canvas.bottom * share

    def is_visible(self, u: float, reach: float) -> bool:
        """Return whether an object that extends `reach` to both sides of `u` is visible."""
        return self.canvas.left - reach < u < self.canvas.right + reach

    def lit(self, base: Colour, distance: float, snow: float = 1.0) -> Colour:
        """Return the land colour `base` under the light of the scene, covered by snow in snowy weather."""
        return self.palette.lit(base, distance, self.palette.white * snow)
