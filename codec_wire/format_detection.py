"""Tells from a body's first bytes what it is: for captures that come without their HTTP headers."""

from codec_wire import WireFormat
from codec_wire.errors import truncated_repr

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_OTHERS = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"RIFF": "a RIFF file (WebP, AVI, WAV)",
    b"PK\x03\x04": "a zip archive (or a torch checkpoint)",
    b"%PDF": "a PDF document",
    b"\x7fELF": "a program",
    b"\x93NUM": "a NumPy array",
    b"<!DO": "an HTML page",
    b"<htm": "an HTML page",
    b"HTTP": "an HTTP answer with its headers (its body alone is the stream)",
    b'{"error"': "an error that a server answered, as JSON",
    b'{"created"': "pictures that a server rendered, as JSON",
    b"{": "JSON",
    b"[": "JSON",
}

_LARGE_MAPS = (0xDE, 0xDF)
"""Maps of 16 pairs and more; smaller ones begin with 0x80 to 0x8f."""
_PRINTED = frozenset((*range(0x20, 0x7F), *b"\t\r\n"))


def coding_of(head: bytes) -> str:
    """Return the content coding that `head`, a body's first bytes, shows: gzip, zstd or identity.

    br has no mark of its own and cannot be told.
    """
    if head.startswith(_GZIP):
        return "gzip"
    return "zstd" if head.startswith(_ZSTD) else "identity"


def wire_format_of(head: bytes) -> WireFormat:
    """Return the wire format whose streams begin as `head`, at least one byte, does.

    A header is under 16 MiB, so the length before it begins with a zero; no msgpack map does.
    """
    return WireFormat.PROTOBUF if head[:1] == b"\0" else WireFormat.MSGPACK


def foreign(head: bytes) -> str | None:
    """Return what a file that can be no latent stream is instead, in words that follow "is", from its first bytes.

    None where they may be those of a stream, or of one in a coding that shows itself.
    """
    for mark, what in _OTHERS.items():
        if head.startswith(mark):
            return f"{what}, not a latent stream"
    if not head or coding_of(head) != "identity" or _begins_message(head):
        return None
    if len(head) > 1 and all(byte in _PRINTED for byte in head):
        return f"text, not a latent stream: {truncated_repr(head.decode(), 40)}"
    return (
        f"no latent stream: {head[:4].hex(' ')} begins no msgpack map and no protobuf length "
        "(br has no mark: where it is that, name the encoding)"
    )


def _begins_message(head: bytes) -> bool:
    """Return whether a message may begin so: a length under 64 KiB, or a map whose first key is a string."""
    first, second = head[0], head[1] if len(head) > 1 else None
    if first == 0:
        return second in (None, 0)
    return first in _LARGE_MAPS or (first & 0xF0 == 0x80 and (second is None or _is_string(second)))


def _is_string(mark: int) -> bool:
    return mark & 0xE0 == 0xA0 or mark in (0xD9, 0xDA, 0xDB)
