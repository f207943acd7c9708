"""Canvas for anti-aliased shapes in scene coordinates.

Scene coordinates are independent of the image size: one unit is the shorter image side, `u` increases to the right
from the centre and `v` downwards from the horizon. A scene therefore looks the same at every resolution, and a zoom
changes only the size of a unit.
"""

from collections.abc import Sequence

import numpy as np

from training.scenes.noise import Array

Colour = Array  # sRGB, float32 [3] in [0, 1]


def colour(red: float, green: float, blue: float) -> Colour:
    """Return an sRGB colour from components in [0, 1]."""
    return np.array((red, green, blue), np.float32)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Interpolate linearly between two colours; `share` 0 returns `first` and 1 returns `second`."""
    return (first + (second - first) * np.float32(share)).astype(np.float32)


class Canvas:
    """Image being painted: `rgb` float32 [3, H, W] in [0, 1]; `u` [W] and `v` [H] are the pixel coordinates."""

    def __init__(self, width: int, height: int, horizon: float, zoom: float) -> None:
        """Create a black canvas of `width` by `height` pixels.

        `horizon` is the vertical position of v=0 as a share of the height from the top, `zoom` the magnification.
        """
        self.width, self.height = width, height
        self.pixels = min(width, height) * zoom  # pixels per unit
        self.u = ((np.arange(width) + 0.5 - width / 2) / self.pixels).astype(np.float32)
        self.v = ((np.arange(height) + 0.5 - height * horizon) / self.pixels).astype(np.float32)
        self.top, self.bottom = float(self.v[0]), float(self.v[-1])
        self.left, self.right = float(self.u[0]), float(self.u[-1])
        self.rgb: Array = np.zeros((3, height, width), np.float32)

    def cover(self, signed: Array) -> Array:
        """Convert signed distances in units (positive inside a shape) to pixel coverage in [0, 1]."""
        covered: Array = np.clip(signed * np.float32(self.pixels) + np.float32(0.5), 0, 1)
        return covered

    def box(self, left: float, top: float, right: float, bottom: float, margin: float = 1.5) -> tuple[slice, slice]:
        """Return the rows and columns of a rectangle in units, extended by `margin` pixels on all sides."""
        edge = margin / self.pixels
        rows = slice(*np.searchsorted(self.v, (top - edge, bottom + edge)).tolist())
        columns = slice(*np.searchsorted(self.u, (left - edge, right + edge)).tolist())
        return rows, columns

    def blend(self, mask: Array, paint: Array, rows: slice = slice(None), columns: slice = slice(None)) -> None:
        """Blend `paint`, a colour [3] or image [3, h, w], over a region with the opacity `mask` [h, w]."""
        part = self.rgb[:, rows, columns]
        if paint.ndim == 1:
            paint = paint[:, None, None]
        part += mask * (paint - part)

    def below(self, line: Array, paint: Array, depth: Array | float | None = None) -> None:
        """Paint everything below the line v(u) [W], or only a band of thickness `depth` (units) if it is given."""
        rows = slice(int(np.searchsorted(self.v, float(line.min()) - 2 / self.pixels)), None)
        beneath = self.v[rows, None] - line[None, :]
        mask = self.cover(beneath)
        if depth is not None:
            mask = mask * self.cover(np.asarray(depth, np.float32) - beneath)
        if paint.ndim == 3 and paint.shape[1] == self.height:
            paint = paint[:, rows]
        self.blend(mask, paint, rows)

    def disc(
        self, u: float, v: float, radius: float, paint: Colour, *, opacity: float = 1.0, soft: float = 0.0
    ) -> None:
        """Paint a disc whose edge is blurred over `soft` units."""
        reach = radius + soft
        rows, columns = self.box(u - reach, v - reach, u + reach, v + reach)
        far = np.hypot(self.v[rows, None] - v, self.u[None, columns] - u)
        mask = np.clip((radius + soft / 2 - far) / (soft + 1 / self.pixels) + 0.5, 0, 1)
        self.blend(np.float32(opacity) * mask.astype(np.float32), paint, rows, columns)

    def glow(self, u: float, v: float, radius: float, paint: Colour, strength: float) -> None:
        """Blend `paint` around a point. The opacity decreases from `strength` to strength / e at `radius`."""
        reach = 4 * radius
        rows, columns = self.box(u - reach, v - reach, u + reach, v + reach)
        far = np.hypot(self.v[rows, None] - v, self.u[None, columns] - u)
        fade = np.clip(np.exp(-far / radius) - np.exp(-4.0), 0, 1)
        self.blend((strength * fade).astype(np.float32), paint, rows, columns)

    def polygon(self, points: Sequence[tuple[float, float]], paint: Colour, opacity: float = 1.0) -> None:
        """Paint a convex polygon with corners (u, v) in clockwise order on the screen."""
        us, vs = [point[0] for point in points], [point[1] for point in points]
        rows, columns = self.box(min(us), min(vs), max(us), max(vs))
        across, down = self.u[None, columns], self.v[rows, None]
        mask: Array | None = None
        for (u0, v0), (u1, v1) in zip(points, [*points[1:], points[0]], strict=True):
            length = float(np.hypot(u1 - u0, v1 - v0)) or 1.0
            inside = self.cover((((u1 - u0) * (down - v0) - (v1 - v0) * (across - u0)) / length).astype(np.float32))
            mask = inside if mask is None else np.minimum(mask, inside)
        if mask is not None:
            self.blend(np.float32(opacity) * mask, paint, rows, columns)

    def rectangle(self, left: float, top: float, right: float, bottom: float, paint: Colour) -> None:
        """Paint an axis-aligned rectangle."""
        rows, columns = self.box(left, top, right, bottom)
        mask = self.span(self.v[rows], top, bottom)[:, None] * self.span(self.u[columns], left, right)[None, :]
        self.blend(mask, paint, rows, columns)

    def span(self, positions: Array, start: float, end: float) -> Array:
        """Return, for each pixel along one axis, the share of the pixel that is between two positions."""
        return np.minimum(self.cover(positions - np.float32(start)), self.cover(np.float32(end) - positions))

    def image(self) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
        """Return the image as uint8 [H, W, 3]."""
        return (np.clip(self.rgb, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0).copy()
