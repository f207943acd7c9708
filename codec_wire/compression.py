"""Compressors for the body of a latent stream.

A compressor uses one context for the whole body, and flushes this context after every message.
"""

import zlib
from functools import lru_cache
from typing import Protocol

import brotli
import zstandard

GZIP_LEVEL = 6
BROTLI_QUALITY = 5
ZSTD_LEVEL = 19
"""zstd compression level.

Compression at level 19 takes 1 to 4 ms for the latents of a 512x512 image. One sampling step takes longer than the
compression.
"""
ZSTD_WINDOW_BYTES = 2**18
"""zstd window size in bytes.

The window covers the latents of an image, or the previous latent frame of a video. The default window of level 19 is 8
MiB. The tables of an 8 MiB window would take 50 ms and 80 MB per body.
"""


class Compressor(Protocol):
    """Compresses one body, message by message."""

    def compress(self, message: bytes) -> bytes:
        """Compress `message` and return the bytes to send.

        A client can decompress the whole message from the bytes returned so far.
        """

    def finish(self) -> bytes:
        """Return the bytes that end the body."""


class IdentityCompressor:
    """Compressor that returns every message unchanged."""

    def compress(self, message: bytes) -> bytes:
        """Return `message` unchanged."""
        return message

    def finish(self) -> bytes:
        """Return no bytes, because an uncompressed body has no end mark."""
        return b""


class GzipCompressor:
    """Compressor for gzip (RFC 1952)."""

    def __init__(self) -> None:
        self._context = zlib.compressobj(GZIP_LEVEL, wbits=zlib.MAX_WBITS | 16)

    def compress(self, message: bytes) -> bytes:
        """Compress `message`, flush the compressor and return the compressed bytes."""
        return self._context.compress(message) + self._context.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        """Return the bytes that end the body."""
        return self._context.flush()


class BrotliCompressor:
    """Compressor for Brotli (RFC 7932)."""

    def __init__(self) -> None:
        self._context = brotli.Compressor(quality=BROTLI_QUALITY)

    def compress(self, message: bytes) -> bytes:
        """Compress `message`, flush the compressor and return the compressed bytes."""
        return bytes(self._context.process(message) + self._context.flush())

    def finish(self) -> bytes:
        """Return the bytes that end the body."""
        return bytes(self._context.finish())


class ZstdCompressor:
    """Compressor for Zstandard (RFC 8878) with a dictionary that the client has too.

    `dictionary` is None only in measurements, because the server never sends zstd bodies without a dictionary.
    """

    def __init__(self, dictionary: bytes | None) -> None:
        prepared = None if dictionary is None else _prepared_dictionary(dictionary)
        self._context = zstandard.ZstdCompressor(
            compression_params=_zstd_parameters(), dict_data=prepared
        ).compressobj()

    def compress(self, message: bytes) -> bytes:
        """Compress `message`, flush the compressor and return the compressed bytes."""
        return self._context.compress(message) + self._context.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def finish(self) -> bytes:
        """Return the bytes that end the body."""
        return self._context.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH)


@lru_cache(maxsize=64)
def _prepared_dictionary(dictionary: bytes) -> zstandard.ZstdCompressionDict:
    """Return the dictionary together with the compression tables that are computed from the dictionary.

    The compression tables are computed once and shared by all bodies.
    """
    prepared = zstandard.ZstdCompressionDict(dictionary)
    prepared.precompute_compress(compression_params=_zstd_parameters())
    return prepared


def _zstd_parameters() -> zstandard.ZstdCompressionParameters:
    return zstandard.ZstdCompressionParameters.from_level(ZSTD_LEVEL, source_size=ZSTD_WINDOW_BYTES, write_dict_id=True)
