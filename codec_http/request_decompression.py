"""Decompression of request bodies, with a limit on the decompressed size."""

from codec_wire.codings import find_coding
from codec_wire.errors import InvalidRequest, StreamError, TooLarge


def decompress(data: bytes, encoding: str, limit: int) -> bytes:
    """Return the decompressed body. `encoding` is the value of Content-Encoding: gzip, br, zstd or identity.

    Raises InvalidRequest if the coding is not supported or the body does not match it, TooLarge as soon as the body
    has more than `limit` bytes.
    """
    parts, size = [], 0
    try:
        decompressor = find_coding(encoding).decompressor()
        for piece in decompressor.expand(data):
            parts.append(piece)
            size += len(piece)
            if size > limit:
                raise TooLarge(f"the request body must have at most {limit} bytes")
        decompressor.finish()
    except StreamError as error:
        raise InvalidRequest(
            "body", f"cannot be decoded; it must match its Content-Encoding header: {error.message}"
        ) from None
    return b"".join(parts)
