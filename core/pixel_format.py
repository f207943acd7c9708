"""Formats of decoded pixels."""

from enum import StrEnum


class PixelFormat(StrEnum):
    """Format in which decoded pixels are returned.

    In the formats RGB, PNG, JPEG and WEBP, every frame is one item. In the format MP4, one file contains all frames.
    """

    RGB = "rgb"
    """8-bit RGB values without a file format, row by row."""
    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"
    MP4 = "mp4"
