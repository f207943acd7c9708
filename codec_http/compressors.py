"""Content codings of a stream: one context for the whole body, flushed after every message."""

import zlib
from functools import lru_cache
from typing import Protocol

import brotli
import zstandard

GZIP_LEVEL = 6
BROTLI_QUALITY = 5
ZSTD_LEVEL = 19
"""Bodies are small and a sampler's step is long: the strongest level that needs no more memory than the window."""


class Compressor(Protocol):
    """One body's compression."""

    def compress(self, message: bytes) -> bytes:
        """Return what must be sent so that the client can read `message` whole."""

    def finish(self) -> bytes:
        """Return what ends the body."""


class Identity:
    """No compression."""

    def compress(self, message: bytes) -> bytes:
        """Return `message`."""
        return message

    def finish(self) -> bytes:
        """Return nothing."""
        return b""


class Gzip:
    """RFC 1952."""

    def __init__(self) -> None:
        self._context = zlib.compressobj(GZIP_LEVEL, wbits=zlib.MAX_WBITS | 16)

    def compress(self, message: bytes) -> bytes:
        """Return `message`, compressed and flushed."""
        return self._context.compress(message) + self._context.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        """Return what ends the body."""
        return self._context.flush()


class Brotli:
    """RFC 7932."""

    def __init__(self) -> None:
        self._context = brotli.Compressor(quality=BROTLI_QUALITY)

    def compress(self, message: bytes) -> bytes:
        """Return `message`, compressed and flushed."""
        return bytes(self._context.process(message) + self._context.flush())

    def finish(self) -> bytes:
        """Return what ends the body."""
        return bytes(self._context.finish())


class Zstd:
    """RFC 8878, with a dictionary that the client holds."""

    def __init__(self, dictionary: bytes) -> None:
        self._context = zstandard.ZstdCompressor(level=ZSTD_LEVEL, dict_data=_digested(dictionary)).compressobj()

    def compress(self, message: bytes) -> bytes:
        """Return `message`, compressed and flushed."""
        return self._context.compress(message) + self._context.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def finish(self) -> bytes:
        """Return what ends the body."""
        return self._context.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH)


@lru_cache(maxsize=64)
def _digested(dictionary: bytes) -> zstandard.ZstdCompressionDict:
    """Return the dictionary, made ready once for all bodies."""
    digested = zstandard.ZstdCompressionDict(dictionary)
    digested.precompute_compress(level=ZSTD_LEVEL)
    return digested
