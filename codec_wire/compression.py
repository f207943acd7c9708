"""Content codings of a stream: one context for the whole body, flushed after every message."""

import zlib
from functools import lru_cache
from typing import Protocol

import brotli
import zstandard

GZIP_LEVEL = 6
BROTLI_QUALITY = 5
ZSTD_LEVEL = 19
"""Bodies are small: a picture of 512x512 takes 1 to 4 ms, where a sampler's step takes longer."""
ZSTD_WINDOW_BYTES = 2**18
"""How far back is looked: over a picture, or the last frame of a video. The level's own 8 MiB would cost each body
50 ms and 80 MB for tables that stay empty."""


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
    """RFC 8878, with a dictionary that the client holds. None is for measuring what it saves: no answer is without."""

    def __init__(self, dictionary: bytes | None) -> None:
        digested = None if dictionary is None else _digested(dictionary)
        self._context = zstandard.ZstdCompressor(
            compression_params=_zstd_parameters(), dict_data=digested
        ).compressobj()

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
    digested.precompute_compress(compression_params=_zstd_parameters())
    return digested


def _zstd_parameters() -> zstandard.ZstdCompressionParameters:
    return zstandard.ZstdCompressionParameters.from_level(ZSTD_LEVEL, source_size=ZSTD_WINDOW_BYTES, write_dict_id=True)
