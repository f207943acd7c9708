"""Detection of the content coding and wire format of a body that was saved without its HTTP headers."""

from codec_wire.codings import CODINGS, IDENTITY
from codec_wire.errors import truncated_repr
from codec_wire.wire_format import WireFormat

_FOREIGN_MAGIC = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"RIFF": "a RIFF file (WebP, AVI, WAV)",
    b"PK\x03\x04": "a zip archive (or a torch checkpoint)",
    b"%PDF": "a PDF document",
    b"\x7fELF": "an executable",
    b"\x93NUM": "a NumPy array",
    b"<!DO": "an HTML page",
    b"<htm": "an HTML page",
    b"HTTP": "an HTTP response with its headers (save only the body)",
    b'{"error"': "a JSON error response",
    b'{"created"': "a JSON response with rendered images",
    b"{": "JSON",
    b"[": "JSON",
}

_LARGE_MAPS = (0xDE, 0xDF)
"""Possible first bytes of a msgpack map with 16 or more pairs. The first byte of a smaller map is from 0x80 to 0x8f."""
_PRINTABLE = frozenset((*range(0x20, 0x7F), *b"\t\r\n"))


def detect_coding(head: bytes) -> str:
    """Return the name of the content coding that the first bytes (magic bytes) of `head` identify, or else "identity".

    Brotli is never detected, because a Brotli body has no magic bytes.
    """
    return next((row.name for row in CODINGS.values() if row.magic and head.startswith(row.magic)), IDENTITY)


def detect_wire_format(head: bytes) -> WireFormat:
    """Return the wire format of a stream that begins with `head`. `head` must have at least one byte.

    A protobuf stream begins with the length of the stream header, which is a 4-byte big-endian integer. The length of
    the stream header is less than 16 MiB, so that the first byte of the integer is 0. The first byte of a msgpack map
    is never 0.
    """
    return WireFormat.PROTOBUF if head[:1] == b"\0" else WireFormat.MSGPACK


def identify_foreign_file(head: bytes) -> str | None:
    """Return a short description of the file that begins with `head`, if the file cannot be a latent stream.

    Return None if `head` can be the beginning of a compressed or uncompressed latent stream.
    """
    for magic, description in _FOREIGN_MAGIC.items():
        if head.startswith(magic):
            return f"{description}, not a latent stream"
    if not head or detect_coding(head) != IDENTITY or _may_begin_message(head):
        return None
    if len(head) > 1 and all(byte in _PRINTABLE for byte in head):
        return f"text, not a latent stream: {truncated_repr(head.decode(), 40)}"
    return (
        f"not a latent stream: its first bytes, {head[:4].hex(' ')}, begin neither a msgpack map nor a protobuf "
        "length prefix. If the stream is compressed with br, pass the encoding br, because br cannot be detected"
    )


def _may_begin_message(head: bytes) -> bool:
    """Return whether `head` can be the beginning of a message in one of the two wire formats.

    The function expects that a protobuf message begins with a length below 64 KiB. A msgpack message is a map whose
    first key is a string.
    """
    first, second = head[0], head[1] if len(head) > 1 else None
    if first == 0:
        return second in (None, 0)
    return first in _LARGE_MAPS or (first & 0xF0 == 0x80 and (second is None or _is_string_marker(second)))


def _is_string_marker(byte: int) -> bool:
    return byte & 0xE0 == 0xA0 or byte in (0xD9, 0xDA, 0xDB)
