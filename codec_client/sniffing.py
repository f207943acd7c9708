"""Tells from a body's first bytes what it is: for captures that come without their HTTP headers."""

from codec_wire import WireFormat

SNIFFED_BYTES = 4
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
    b"HTTP": "an HTTP answer with its headers; keep the body alone",
    b'{"er': "an error that a server answered, as JSON",
    b'{"da': "pictures that a server rendered, as JSON",
}


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
    """Return what a file that is no latent stream is instead, where its first bytes tell."""
    return next((what for mark, what in _OTHERS.items() if head.startswith(mark)), None)
