"""Negotiation of the format in which decoded pixels are returned."""

from collections.abc import Mapping

from codec_http.negotiation import parse_quality_values
from codec_wire.http import NPY_MEDIA_TYPE
from core.pixel_format import PixelFormat

IMAGE_MEDIA_TYPES: Mapping[str, PixelFormat] = {
    "image/png": PixelFormat.PNG,
    "image/jpeg": PixelFormat.JPEG,
    "image/webp": PixelFormat.WEBP,
    NPY_MEDIA_TYPE: PixelFormat.RGB,
}
"""Formats of a decoded image by media type; the first one is the default."""
VIDEO_MEDIA_TYPES: Mapping[str, PixelFormat] = {
    "video/mp4": PixelFormat.MP4,
    NPY_MEDIA_TYPE: PixelFormat.RGB,
}
"""Formats of a decoded video by media type; the first one is the default."""


def media_type_of(pixel_format: PixelFormat) -> str:
    """Return the Content-Type of a response in this format."""
    names = {**IMAGE_MEDIA_TYPES, **VIDEO_MEDIA_TYPES}
    return next(name for name, found in names.items() if found is pixel_format)


def acceptable_formats(accept: str, offered: Mapping[str, PixelFormat]) -> tuple[PixelFormat, ...]:
    """Return the formats among `offered` that an Accept header allows, preferred ones first (RFC 9110, 12.5.1).

    Formats of equal weight are in the order of `offered`. An empty header allows all of them.
    """
    ranges = dict(reversed(parse_quality_values(accept or "*/*")))
    weights = {found: _weight(name, ranges) for name, found in offered.items()}
    return tuple(sorted((found for found, weight in weights.items() if weight > 0), key=lambda one: -weights[one]))


def _weight(media_type: str, ranges: Mapping[str, float]) -> float:
    """Return the weight of the most specific range that matches `media_type`; 0 if none does."""
    for name in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        if name in ranges:
            return ranges[name]
    return 0.0
