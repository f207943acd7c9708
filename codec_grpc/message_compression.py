"""Decompression of request messages.

gRPC would decompress a message in the thread of the event loop, which takes up to 0.2 s for a message of 16 kB.
gRPC does not report whether a message is compressed, so this module detects it from the first bytes.
"""

import asyncio
import zlib

from codec_wire.errors import InvalidRequest

INLINE_BYTES = 1024
"""Maximum size in bytes of a compressed message that is decompressed on the event loop."""
MAX_RATIO, MAX_BYTES_AT_ANY_RATIO = 20, 1024 * 1024
"""Maximum ratio of the sizes of a message after and before decompression, for messages over MAX_BYTES_AT_ANY_RATIO.

Images have a ratio of about 1. Without this limit, a client could use much more CPU time than it uses itself.
"""
_GZIP, _ZLIB = zlib.MAX_WBITS | 16, zlib.MAX_WBITS
_GZIP_MAGIC = b"\x1f\x8b"
"""First bytes of gzip data (RFC 1952, 2.3.1). A protobuf message cannot begin with them: no field has type 7."""
_ZLIB_MAGICS = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
"""First bytes of zlib data (RFC 1950, 2.2) for each compression level. A protobuf message can also begin with them."""


async def decompress(data: bytes, max_bytes: int) -> bytes:
    """Return the message in `data`, which may be compressed with gzip or deflate.

    Raises InvalidRequest if the message has more than `max_bytes` bytes, or if `data` is damaged gzip data. The limit
    is lower if the message is more than MAX_RATIO times larger than `data`.
    """
    if not data.startswith((_GZIP_MAGIC, *_ZLIB_MAGICS)):
        return _limited(data, max_bytes)
    if len(data) <= INLINE_BYTES:
        return _decompress(data, max_bytes)
    return await asyncio.to_thread(_decompress, data, max_bytes)


def _decompress(data: bytes, max_bytes: int) -> bytes:
    is_gzip = data.startswith(_GZIP_MAGIC)
    max_bytes = min(max_bytes, max(MAX_BYTES_AT_ANY_RATIO, MAX_RATIO * len(data)))
    decompressor = zlib.decompressobj(_GZIP if is_gzip else _ZLIB)
    try:
        message = decompressor.decompress(data, max_bytes + 1)
    except zlib.error:
        message = b""
    if len(message) > max_bytes or (decompressor.eof and not decompressor.unused_data):
        return _limited(message, max_bytes)
    if is_gzip:
        raise InvalidRequest("request", f"is not valid gzip data ({len(data)} bytes)")
    return _limited(data, max_bytes)  # a message that begins with the same bytes as zlib data


def _limited(message: bytes, max_bytes: int) -> bytes:
    if len(message) > max_bytes:
        raise InvalidRequest("request", f"must have at most {max_bytes} bytes, not compressed")
    return message
