"""Pictures that come with a request: what is allowed, read from their first bytes before anything is decoded."""

from dataclasses import dataclass

from codec_wire.errors import InvalidRequest

MAX_IMAGE_BYTES = 8 * 1024 * 1024
"""Bytes that one picture may have as a file."""
MAX_IMAGE_PIXELS = 16 * 1024 * 1024
"""Pixels that one picture may have: 4096x4096. Decoded it then holds 64 MiB at the most."""
FORMATS = ("png", "jpeg", "webp")

_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a frame header (ITU-T T.81, table B.1); the three left out are tables and reserved."""
_JPEG_ALONE = frozenset((0x01, *range(0xD0, 0xD8)))
"""Markers that no length follows."""


@dataclass(frozen=True, slots=True)
class InputImage:
    """A picture as it came, checked against the bounds and not decoded. Sides in pixels."""

    data: bytes
    kind: str
    width: int
    height: int

    def __repr__(self) -> str:
        return f"InputImage({self.kind}, {self.width}x{self.height}, {len(self.data)} bytes)"


def read_input_image(field: str, data: bytes) -> InputImage:
    """Return the picture that the request's `field` holds.

    Only its header is read, so a small file that would unpack to gigabytes costs nothing. Raises InvalidRequest: too
    many bytes or pixels, no png, jpeg or webp, or a header that breaks off.
    """
    if len(data) > MAX_IMAGE_BYTES:
        raise InvalidRequest(field, f"must have at most {MAX_IMAGE_BYTES} bytes, got {len(data)}")
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        kind, size = "png", _png_size(data)
    elif data.startswith(b"\xff\xd8\xff"):
        kind, size = "jpeg", _jpeg_size(data)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        kind, size = "webp", _webp_size(data)
    else:
        raise InvalidRequest(field, f"must be a picture ({', '.join(FORMATS)}), got {len(data)} bytes of neither")
    if size is None or 0 in size:
        raise InvalidRequest(field, f"is a broken {kind}: its header names no size")
    width, height = size
    if width * height > MAX_IMAGE_PIXELS:
        raise InvalidRequest(field, f"must have at most {MAX_IMAGE_PIXELS} pixels, got {width}x{height}")
    return InputImage(data, kind, width, height)


def _png_size(data: bytes) -> tuple[int, int] | None:
    """Width and height stand in IHDR, which is the first chunk (PNG specification, 11.2.1)."""
    if len(data) < 24 or data[12:16] != b"IHDR":
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height stand in the first frame header; the segments before it are skipped by their lengths."""
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # fill
            at += 1
        elif marker in _JPEG_ALONE:
            at += 2
        elif marker in _JPEG_SIZES:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        else:
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height stand in the first chunk (RFC 9649): VP8X the canvas, VP8L lossless, VP8 lossy."""
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
