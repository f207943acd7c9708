"""The painter's tools: anti-aliased shapes laid over a picture in scene coordinates.

Scene coordinates do not know the picture's size: one unit is its shorter side, `u` grows rightwards from the
middle, `v` downwards from the horizon. So a scene looks the same at every resolution, and zooming is a change
of unit.
"""

from collections.abc import Sequence

import numpy as np

from training.scenes.noise import Array

Colour = Array  # float32 [3], sRGB in 0…1


def colour(red: float, green: float, blue: float) -> Colour:
    """Return an sRGB colour from its parts in 0…1."""
    return np.array((red, green, blue), np.float32)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Return the colour `share` of the way from `first` to `second`."""
    return (first + (second - first) * np.float32(share)).astype(np.float32)


class Canvas:
    """A picture being painted: `rgb` float32 [3, H, W] in 0…1; `u` [W] and `v` [H] place its pixels."""

    def __init__(self, width: int, height: int, horizon: float, zoom: float) -> None:
        """Start black; `horizon` is where v=0 lies (0 top, 1 bottom), `zoom` the magnification."""
        self.width, self.height = width, height
        self.pixels = min(width, height) * zoom  # a unit in pixels
        self.u = ((np.arange(width) + 0.5 - width / 2) / self.pixels).astype(np.float32)
        self.v = ((np.arange(height) + 0.5 - height * horizon) / self.pixels).astype(np.float32)
        self.top, self.bottom = float(self.v[0]), float(self.v[-1])
        self.left, self.right = float(self.u[0]), float(self.u[-1])
        self.rgb: Array = np.zeros((3, height, width), np.float32)

    def cover(self, signed: Array) -> Array:
        """Turn a signed distance in units (inside positive) into coverage 0…1, soft over one pixel."""
        covered: Array = np.clip(signed * np.float32(self.pixels) + np.float32(0.5), 0, 1)
        return covered

    def box(self, left: float, top: float, right: float, bottom: float, margin: float = 1.5) -> tuple[slice, slice]:
        """Return the rows and columns of pixels that a rectangle in units touches; `margin` in pixels."""
        edge = margin / self.pixels
        rows = slice(*np.searchsorted(self.v, (top - edge, bottom + edge)).tolist())
        columns = slice(*np.searchsorted(self.u, (left - edge, right + edge)).tolist())
        return rows, columns

    def blend(self, mask: Array, paint: Array, rows: slice = slice(None), columns: slice = slice(None)) -> None:
        """Lay `paint` (a colour [3], or [3, h, w]) over the given part as strongly as `mask` [h, w] says."""
        part = self.rgb[:, rows, columns]
        if paint.ndim == 1:
            paint = paint[:, None, None]
        part += mask * (paint - part)

    def below(self, line: Array, paint: Array, depth: Array | float | None = None) -> None:
        """Paint everything below a height line v(u) [W]; with `depth` only a band that thick (units)."""
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
        """Paint a disc; `soft` widens its edge by so many units."""
        reach = radius + soft
        rows, columns = self.box(u - reach, v - reach, u + reach, v + reach)
        far = np.hypot(self.v[rows, None] - v, self.u[None, columns] - u)
        mask = np.clip((radius + soft / 2 - far) / (soft + 1 / self.pixels) + 0.5, 0, 1)
        self.blend(np.float32(opacity) * mask.astype(np.float32), paint, rows, columns)

    def glow(self, u: float, v: float, radius: float, paint: Colour, strength: float) -> None:
        """Lighten around a point; the light falls to 1/e at `radius`."""
        reach = 4 * radius
        rows, columns = self.box(u - reach, v - reach, u + reach, v + reach)
        far = np.hypot(self.v[rows, None] - v, self.u[None, columns] - u)
        fade = np.clip(np.exp(-far / radius) - np.exp(-4.0), 0, 1)
        self.blend((strength * fade).astype(np.float32), paint, rows, columns)

    def polygon(self, points: Sequence[tuple[float, float]], paint: Colour, opacity: float = 1.0) -> None:
        """Paint a convex polygon, its corners (u, v) in clockwise order as seen on the screen."""
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
        """Paint an upright rectangle."""
        rows, columns = self.box(left, top, right, bottom)
        mask = self.span(self.v[rows], top, bottom)[:, None] * self.span(self.u[columns], left, right)[None, :]
        self.blend(mask, paint, rows, columns)

    def span(self, positions: Array, start: float, end: float) -> Array:
        """Return how much of each pixel along one axis lies between two positions."""
        return np.minimum(self.cover(positions - np.float32(start)), self.cover(np.float32(end) - positions))

    def image(self) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
        """Return the picture as uint8 [H, W, 3]."""
        return (np.clip(self.rgb, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0).copy()
