"""Validation of input images from the headers of the image files, without decoding the pixels."""

from dataclasses import dataclass

from codec_wire.errors import InvalidRequest
from core.orientation import swaps_sides

MAX_IMAGE_BYTES = 8 * 1024 * 1024
"""Maximum size of an image file in bytes."""
MAX_IMAGE_PIXELS = 16 * 1024 * 1024
"""Maximum number of pixels of an image, equal to an image of 4096x4096 pixels.

A decoded image takes at most 64 MiB.
"""

_JPEG_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers of a frame header (ITU-T T.81, table B.1). The three excluded markers do not begin a frame header."""
_JPEG_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD8)))
"""JPEG markers that are not followed by a segment length."""
_MAX_JPEG_MARKERS = 4096
"""Maximum number of markers and fill bytes before the frame header of a JPEG file.

Real files have fewer than 1,000 markers and fill bytes before the frame header.
"""


@dataclass(frozen=True, slots=True)
class InputImage:
    """An image file from a request, checked against the limits but not decoded. `width` and `height` are in pixels."""

    data: bytes
    format: str
    width: int
    height: int

    def __repr__(self) -> str:
        return f"InputImage({self.format}, {self.width}x{self.height}, {len(self.data)} bytes)"


def read_input_image(field: str, data: bytes) -> InputImage:
    """Return the image in `data`, which is the value of the request field `field`.

    Only the header is read, so that a small file that would decode to gigabytes is rejected without decoding. Raises
    InvalidRequest if the file has too many bytes or pixels, is not a PNG, JPEG or WebP file, or has a broken header.
    """
    if len(data) > MAX_IMAGE_BYTES:
        raise InvalidRequest(field, f"must have at most {MAX_IMAGE_BYTES} bytes, got {len(data)}")
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        name, size = "png", _png_size(data)
    elif data.startswith(b"\xff\xd8\xff"):
        name, size = "jpeg", _jpeg_size(data)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        name, size = "webp", _webp_size(data)
    else:
        raise InvalidRequest(field, f"must be a PNG, JPEG or WebP image, got {len(data)} bytes of another format")
    if size is None or 0 in size:
        raise InvalidRequest(field, f"is a broken {name} file: its header contains no valid size")
    width, height = size
    if width * height > MAX_IMAGE_PIXELS:
        raise InvalidRequest(field, f"must have at most {MAX_IMAGE_PIXELS} pixels, got {width}x{height}")
    return InputImage(data, name, width, height)


def require_same_size(field: str, file: InputImage, image: InputImage) -> None:
    """Check that `file`, the value of the request field `field`, has the size of the input image `image`.

    Both images are scaled and cropped in the same way, so a `file` with other proportions would not match `image`.
    Raises InvalidRequest if the sizes differ. The InvalidRequest names the request field `field`.
    """
    size, expected = (_upright_size(one) for one in (file, image))
    if size != expected:
        raise InvalidRequest(
            field, f"must have the size of `image`, {expected[0]}x{expected[1]}, got {size[0]}x{size[1]}"
        )


def _upright_size(image: InputImage) -> tuple[int, int]:
    size = image.width, image.height
    return size[::-1] if swaps_sides(image.data) else size


def _png_size(data: bytes) -> tuple[int, int] | None:
    """Return (width, height) from the first chunk, IHDR (PNG specification, 11.2.1), or None if IHDR is missing."""
    if len(data) < 24 or data[12:16] != b"IHDR":
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return (width, height) from the first frame header of a JPEG file (ITU-T T.81, B.2.2).

    The segments before the frame header are skipped.
    """
    at = 2
    for _ in range(_MAX_JPEG_MARKERS):
        if at + 9 > len(data) or data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _JPEG_WITHOUT_LENGTH:
            at += 2
        elif marker in _JPEG_FRAME_HEADERS:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        else:
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Return (width, height) from the first chunk of a WebP file (RFC 9649).

    The type of the first chunk is VP8X, VP8L or VP8.
    """
    chunk, body = data[12:16], data[20:30]
    if len(body) < 10:
        return None
    if chunk == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    return None
