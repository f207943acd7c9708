"""Removal of metadata from image files, and reading of the EXIF orientation in the metadata.

Pillow parses some metadata when Pillow opens an image file. If the parsed metadata are broken, Pillow does not decode
the pixels. The server decodes the pixels from a copy of the file without metadata, because images with broken metadata
must be accepted.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from core.input_image import InputImage

if TYPE_CHECKING:
    from PIL.Image import Image

_ORIENTATION = 0x0112
_UPRIGHT = 1
_PNG_PIXELS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
_PNG_ORIENTATION = frozenset((b"eXIf", b"iTXt", b"tEXt", b"zTXt"))
_JPEG_MIN_LENGTHS = {0xE0: (b"JFIF\0", 14), 0xEE: (b"Adobe", 12)}
"""JPEG segments that determine the colours, as a dictionary by JPEG marker.

Each value contains the first bytes of the segment's content, and the minimum length of the content in bytes. The
library libjpeg ignores segments that are shorter than the minimum length.
"""
_WEBP_FLAGS = {b"ICCP": 0x20, b"EXIF": 0x08, b"XMP ": 0x04}
"""Flags in the WebP chunk VP8X, as a dictionary by the name of the metadata chunk (RFC 9649, 2.7.1)."""


def without_metadata(file: InputImage) -> bytes:
    """Return a copy of `file` with only the data that determine the pixels.

    Bytes of `file` that cannot be parsed are kept in the copy.
    """
    return _FILTERS[file.format](file.data, False)


def orientation_of(file: InputImage) -> int:
    """Return the EXIF orientation of `file`, from 1 to 8, or 1 if the orientation cannot be read.

    Metadata other than the orientation are ignored.
    """
    from PIL import Image  # noqa: PLC0415 - a gateway has no Pillow

    try:
        data = _FILTERS[file.format](file.data, True)
        with Image.open(io.BytesIO(data), formats=[file.format]) as image:
            value: Any = image.getexif().get(_ORIENTATION, _UPRIGHT)
    # What Pillow raises for broken EXIF and XMP.
    except (OSError, ValueError, SyntaxError, LookupError, TypeError, OverflowError, struct.error, zlib.error):
        return _UPRIGHT
    return value if type(value) is int and value in range(1, 9) else _UPRIGHT


def upright(image: "Image", orientation: int) -> "Image":
    """Return `image` rotated and mirrored as the EXIF orientation `orientation` requires.

    `orientation` is a value from 1 to 8 (Exif 2.32, 4.6.4).
    """
    from PIL.Image import Transpose  # noqa: PLC0415 - a gateway has no Pillow

    methods = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(methods[orientation]) if orientation in methods else image


def _png(data: bytes, keep_orientation: bool) -> bytes:
    """Return a PNG file with only the chunks that determine the pixels (PNG specification, section 5)."""
    kept = _PNG_PIXELS | _PNG_ORIENTATION if keep_orientation else _PNG_PIXELS
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        name = data[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if name in kept or not name[0] & 0x20:  # an upper-case first letter marks a chunk that decoders need
            parts.append(data[at:end])
        at = end
        if name == b"IEND":
            return b"".join(parts)
    return b"".join((*parts, data[at:]))


def _jpeg(data: bytes, keep_orientation: bool) -> bytes:
    """Return a JPEG file without comments and application segments, except segments that determine the colours.

    Only segments before the first scan are removed (ITU-T T.81, B.2.4).
    """
    parts, at = [data[:2]], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        marker = data[at + 1]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD9:  # without a length
            end = at + (1 if marker == 0xFF else 2)
        else:
            end = at + 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
        body = data[at + 4 : end]
        if marker in _JPEG_MIN_LENGTHS:
            prefix, length = _JPEG_MIN_LENGTHS[marker]
            keep = body.startswith(prefix) and len(body) >= length
        elif marker == 0xE1:
            keep = keep_orientation
        else:
            keep = not (0xE0 <= marker <= 0xEF or marker == 0xFE)
        if keep:
            parts.append(data[at:end])
        at = end
    return b"".join((*parts, data[at:]))


def _webp(data: bytes, keep_orientation: bool) -> bytes:
    """Return a WebP file without metadata chunks and without the header flags of the metadata chunks (RFC 9649)."""
    removed = dict(_WEBP_FLAGS)
    if keep_orientation:
        del removed[b"EXIF"], removed[b"XMP "]
    parts = []
    for name, chunk in _riff_chunks(data[: 8 + int.from_bytes(data[4:8], "little")]):
        if name == b"VP8X" and len(chunk) > 8:
            parts.append(chunk[:8] + bytes([chunk[8] & ~sum(removed.values())]) + chunk[9:])
        elif name not in removed:
            parts.append(chunk)
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name and the bytes of each chunk of a WebP file. The bytes include the chunk's header and padding."""
    at = 12
    while at < len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + size + size % 2
        yield data[at : at + 4], data[at:end]
        at = end


_FILTERS = {"png": _png, "jpeg": _jpeg, "webp": _webp}
