"""Negotiation of the format in which decoded pixels are returned."""

from collections.abc import Mapping

from codec_http.negotiation import parse_quality_values
from codec_wire.http import PIXEL_MEDIA_TYPES
from core.pixel_format import PixelFormat

IMAGE_MEDIA_TYPES: Mapping[str, PixelFormat] = {
    PIXEL_MEDIA_TYPES[found]: found for found in (PixelFormat.PNG, PixelFormat.JPEG, PixelFormat.WEBP, PixelFormat.RGB)
}
"""Dictionary of the file formats for decoded images by media type. The first format is the default."""
VIDEO_MEDIA_TYPES: Mapping[str, PixelFormat] = {
    PIXEL_MEDIA_TYPES[found]: found for found in (PixelFormat.MP4, PixelFormat.RGB)
}
"""Dictionary of the file formats for decoded videos by media type. The first format is the default."""


def acceptable_formats(accept: str, offered: Mapping[str, PixelFormat]) -> tuple[PixelFormat, ...]:
    """Return the formats in `offered` that the Accept header allows, in order of preference (RFC 9110, 12.5.1).

    Formats of equal weight are in the order of `offered`. An empty header allows all formats in `offered`.
    """
    ranges = dict(reversed(parse_quality_values(accept or "*/*")))
    weights = {found: _weight(name, ranges) for name, found in offered.items()}
    return tuple(sorted((found for found, weight in weights.items() if weight > 0), key=lambda one: -weights[one]))


def _weight(media_type: str, ranges: Mapping[str, float]) -> float:
    """Return the weight of the most specific media range that matches `media_type`, or 0 if no range matches."""
    for name in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        if name in ranges:
            return ranges[name]
    return 0.0
