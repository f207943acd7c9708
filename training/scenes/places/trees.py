"""Trees shared by several places: outlines of conifer rows, single conifers and broad-leaved trees."""

import numpy as np

from training.scenes.canvas import Colour, colour, mix
from training.scenes.noise import Array
from training.scenes.paint_context import PaintContext


def tree_line(rng: np.random.Generator, at: Array, spacing: float, height: float) -> Array:
    """Return the height of a row of conifers above the ground at positions `at`, float32 [W].

    `spacing` is the mean distance between trees and `height` the maximum height, both in scene units.
    """
    heights = rng.uniform(0.55, 1.0, 256)
    shifts = rng.uniform(-0.3, 0.3, 256)
    cell = np.floor(at / spacing).astype(np.int64)
    outline = np.zeros_like(at)
    for neighbour in (-1, 0, 1):
        index = (cell + neighbour) % 256
        middle = (cell + neighbour + 0.5 + shifts[index]) * spacing
        rise = heights[index] * (1 - np.abs(at - middle) / (0.85 * spacing)) * height
        outline = np.maximum(outline, rise).astype(np.float32)
    return outline


def conifer(context: PaintContext, u: float, base: float, height: float, paint: Colour, *, distance: float) -> None:
    """Paint a conifer of three tiers whose base is at (u, base); in snowy weather the tiers carry snow."""
    if not context.is_visible(u, height * 0.3):
        return
    canvas = context.canvas
    trunk = context.palette.lit(colour(0.30, 0.20, 0.14), distance)
    canvas.rectangle(u - 0.025 * height, base - 0.15 * height, u + 0.025 * height, base, trunk)
    shadow = paint * np.float32(0.78)
    dark_left = context.light.u > u
    for tier, (top, bottom, half) in enumerate(((-0.5, -0.10, 0.25), (-0.76, -0.36, 0.19), (-1.0, -0.62, 0.13))):
        upper, lower, side = base + top * height, base + bottom * height, half * height
        canvas.polygon(((u, upper), (u + side, lower), (u - side, lower)), paint)
        edge = u - side if dark_left else u + side
        corners = ((u, upper), (u, lower), (edge, lower)) if dark_left else ((u, upper), (edge, lower), (u, lower))
        canvas.polygon(corners, shadow)
        if context.palette.white:
            snow = context.palette.lit(paint, distance, 1.0)
            middle = upper + (0.55 if tier < 2 else 0.7) * (lower - upper)
            width = side * (middle - upper) / (lower - upper)
            canvas.polygon(((u, upper), (u + width, middle), (u - width, middle)), snow, 0.9)


def round_tree(context: PaintContext, u: float, base: float, height: float, paint: Colour, *, distance: float) -> None:
    """Paint a broad-leaved tree with a lit and a shaded side whose base is at (u, base)."""
    if not context.is_visible(u, height * 0.5):
        return
    canvas = context.canvas
    trunk = context.palette.lit(colour(0.34, 0.23, 0.16), distance)
    canvas.rectangle(u - 0.04 * height, base - 0.5 * height, u + 0.04 * height, base, trunk)
    toward = 1 if context.light.u > u else -1
    for dx, dy, radius in ((0.0, -0.62, 0.33), (-0.2, -0.5, 0.22), (0.2, -0.5, 0.22)):
        canvas.disc(u + dx * height, base + dy * height, radius * height, paint * np.float32(0.78))
    canvas.disc(u + toward * 0.07 * height, base - 0.68 * height, 0.25 * height, mix(paint, context.palette.sun, 0.08))
