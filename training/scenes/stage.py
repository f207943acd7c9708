"""What every place is painted with: the canvas, the light, and positions that a panning camera shifts."""

from dataclasses import dataclass

import numpy as np

from training.scenes.canvas import Canvas, Colour
from training.scenes.labels import Scene
from training.scenes.mood import Mood
from training.scenes.noise import Array
from training.scenes.sky import Light


@dataclass(frozen=True, slots=True)
class Stage:
    """A scene ready to be painted; distances run from 0 (near) to 1 (horizon)."""

    canvas: Canvas
    scene: Scene
    mood: Mood
    light: Light
    pan: float  # how far the camera moved to the right, in units at distance 0

    def along(self, distance: float) -> Array:
        """Return the world position of every column, float32 [W], for things at a distance."""
        return (self.canvas.u + np.float32(self.pan * (1 - 0.8 * distance))).astype(np.float32)

    def at(self, position: float, distance: float) -> float:
        """Return where a thing at a world position stands in the picture."""
        return position - self.pan * (1 - 0.8 * distance)

    def down(self, share: float) -> float:
        """Return the height `share` of the way from the horizon to the picture's lower edge."""
        return self.canvas.bottom * share

    def seen(self, u: float, reach: float) -> bool:
        """Say whether something `reach` wide around `u` is in the picture."""
        return self.canvas.left - reach < u < self.canvas.right + reach

    def lit(self, base: Colour, distance: float, snow: float = 1.0) -> Colour:
        """Return a land colour in this light, under this weather's snow."""
        return self.mood.lit(base, distance, self.mood.white * snow)
