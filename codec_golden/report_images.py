"""The pictures of the report: whole, their difference, and the part of them that changed most, enlarged."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

THUMBNAIL_SIDE = 320
"""Longest side of a whole picture in the report, in pixels."""
REGION_SIDE = 64
"""Side of the part that is shown enlarged, in pixels."""
ENLARGED_SIDE = 320
AMPLIFICATION = 8
"""How many times a difference is brightened."""

RgbImage = NDArray[np.uint8]
"""[height, width, 3], RGB."""


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a picture, in pixels from its upper left corner."""

    top: int
    left: int
    height: int
    width: int

    def of(self, picture: RgbImage) -> RgbImage:
        """Return that part of `picture`."""
        return picture[self.top : self.top + self.height, self.left : self.left + self.width]

    def style(self, picture: RgbImage) -> str:
        """Return the CSS that puts a frame around it, over `picture` at any size."""
        height, width = picture.shape[:2]
        shares = {
            "top": self.top / height,
            "left": self.left / width,
            "height": self.height / height,
            "width": self.width / width,
        }
        return "; ".join(f"{name}: {share:.2%}" for name, share in shares.items())


def most_different_region(reference: RgbImage, picture: RgbImage) -> Region:
    """Return the square of side DETAIL that holds the most difference; less than that where a side is shorter.

    Differences are squared: a little everywhere is less to look at than much in one place.
    """
    apart = np.square(reference.astype(np.int64) - picture).sum(axis=2)
    sums = np.pad(apart.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    height, width = (min(REGION_SIDE, side) for side in apart.shape)
    within = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(int(within.argmax()), within.shape)
    return Region(int(top), int(left), height, width)


def difference(reference: RgbImage, picture: RgbImage) -> RgbImage:
    """Return how far the pictures are apart, AMPLIFIED times, as grey: a pixel's largest difference of a colour."""
    apart = np.abs(reference.astype(np.int16) - picture).max(axis=2, keepdims=True) * AMPLIFICATION
    grey: RgbImage = np.clip(apart, 0, 255).astype(np.uint8).repeat(3, axis=2)
    return grey


def whole(picture: RgbImage) -> str:
    """Return the address of `picture`, at most WHOLE pixels a side."""
    image = Image.fromarray(picture)
    if max(image.size) > THUMBNAIL_SIDE:
        image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    return _data_url(image)


def enlarged_url(picture: RgbImage) -> str:
    """Return the address of `picture`, each pixel a square, as near to ENLARGED as goes."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    factor = max(1, ENLARGED_SIDE // max(image.size))
    return _data_url(image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST))


def _data_url(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
