"""Reading of the EXIF orientation of an image file without an image library. A gateway has no image library."""

import struct

_ORIENTATION = 0x0112
_SWAPPED = range(5, 9)
"""Values of the EXIF orientation that exchange the width and the height of an image (Exif 2.32, section 4.6.4)."""
_MARKERS = ((b"Exif\0\0", 6), (b"eXIf", 4), (b"EXIF", 8))
"""Pairs of a marker in an image file and an offset in bytes.

The offset is the number of bytes from the start of the marker to the TIFF structure.

The first marker is for JPEG files and some WebP files, the second for PNG files, and the third for other WebP files.
"""
_MAX_ENTRIES = 256


def swaps_sides(data: bytes) -> bool:
    """Return whether the EXIF orientation of an image file exchanges the width and the height of the image.

    Return False if the orientation is unknown.
    """
    for marker, length in _MARKERS:
        start = data.find(marker)
        if start >= 0:
            return _orientation(memoryview(data)[start + length :]) in _SWAPPED
    return False


def _orientation(tiff: memoryview) -> int | None:
    """Return the value of the orientation tag in the first directory of a TIFF structure (TIFF 6.0, section 2)."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(tiff[:2]))
    if order is None:
        return None
    try:
        (at,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, at)
        for index in range(min(count, _MAX_ENTRIES)):
            tag, _kind, _count, value = struct.unpack_from(f"{order}HHIH", tiff, at + 2 + 12 * index)
            if tag == _ORIENTATION:
                return int(value)
    except struct.error:
        return None
    return None
