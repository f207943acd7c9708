"""Formats of decoded pixels."""

from enum import StrEnum


class PixelFormat(StrEnum):
    """Format in which decoded pixels are returned.

    RGB, PNG, JPEG and WEBP are one item per frame; MP4 is one file for all frames.
    """

    RGB = "rgb"
    """8-bit RGB values without a file format, row by row."""
    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"
    MP4 = "mp4"
