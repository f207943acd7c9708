"""Images of the report, such as thumbnails, difference images and the enlarged region that changed most."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

THUMBNAIL_SIDE = 320
"""Longest side of a thumbnail, in pixels."""
REGION_SIDE = 64
"""Side of the region that is shown enlarged, in pixels."""
ENLARGED_SIDE = 320
"""Upper limit for the longest side of an enlarged region, in pixels."""
AMPLIFICATION = 8
"""Factor by which difference images are brightened."""

RgbImage = NDArray[np.uint8]
"""8-bit RGB image, [height, width, 3]."""


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle in an image, in pixels from the upper left corner."""

    top: int
    left: int
    height: int
    width: int

    def crop(self, image: RgbImage) -> RgbImage:
        """Return this region of `image`."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]

    def style(self, image: RgbImage) -> str:
        """Return CSS that positions a border around this region of `image` at any display size."""
        height, width = image.shape[:2]
        fractions = {
            "top": self.top / height,
            "left": self.left / width,
            "height": self.height / height,
            "width": self.width / width,
        }
        return "; ".join(f"{name}: {fraction:.2%}" for name, fraction in fractions.items())


def most_different_region(reference: RgbImage, image: RgbImage) -> Region:
    """Return the square region of side REGION_SIDE that has the largest sum of squared differences.

    If a side of the image is shorter than REGION_SIDE, the region covers this side of the image completely. Differences
    are squared, so that one large difference counts more than many small differences.
    """
    squared = np.square(reference.astype(np.int64) - image).sum(axis=2)
    sums = np.pad(squared.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    height, width = (min(REGION_SIDE, side) for side in squared.shape)
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return Region(int(top), int(left), height, width)


def difference_image(reference: RgbImage, image: RgbImage) -> RgbImage:
    """Return a grey image of the differences between two images.

    The brightness of a pixel is the largest difference of the three channels, multiplied by AMPLIFICATION.
    """
    largest = np.abs(reference.astype(np.int16) - image).max(axis=2, keepdims=True) * AMPLIFICATION
    grey: RgbImage = np.clip(largest, 0, 255).astype(np.uint8).repeat(3, axis=2)
    return grey


def thumbnail_url(image: RgbImage) -> str:
    """Return a data URL of `image`, scaled down to at most THUMBNAIL_SIDE pixels per side."""
    thumbnail = Image.fromarray(image)
    if max(thumbnail.size) > THUMBNAIL_SIDE:
        thumbnail.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    return _data_url(thumbnail)


def enlarged_url(image: RgbImage) -> str:
    """Return a data URL of `image`, enlarged by an integer factor to at most ENLARGED_SIDE pixels per side."""
    small = Image.fromarray(np.ascontiguousarray(image))
    factor = max(1, ENLARGED_SIDE // max(small.size))
    return _data_url(small.resize((small.width * factor, small.height * factor), Image.Resampling.NEAREST))


def _data_url(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
