"""Decompressors for the body of a latent stream.

Each decompressor yields pieces of bounded size on demand, so that a decompression bomb is detected before the
decompressed data fills the memory.
"""

import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol

import brotli
import zstandard

from codec_wire.errors import MalformedMessage, StreamError, TruncatedStream
from codec_wire.first_line import first_line
from codec_wire.zstd_blocks import ZstdBlockSplitter

PIECE_BYTES = 64 * 1024
"""Maximum size in bytes of a decompressed piece of a gzip or br body."""
ZSTD_PIECE_BLOCKS = 8
"""Maximum number of zstd blocks that begin in the input of one decompressor call.

With this limit, one call of the decompressor returns at most nine blocks of 128 KiB.
"""
ZSTD_WINDOW_BYTES = 8 * 1024 * 1024
"""Largest accepted zstd window in bytes. RFC 9659 sets this limit for the content coding zstd."""


class Decompressor(Protocol):
    """Decompresses one body."""

    def expand(self, data: bytes) -> Iterator[bytes]:
        """Yield the decompressed bytes of `data` in pieces of bounded size.

        A piece is decompressed only when the caller requests the piece. Exhaust the iterator before you call this
        method again. Raises MalformedMessage if `data` is not valid in the content coding, or if `data` continues after
        the end of the body.
        """

    def finish(self) -> None:
        """Check that the body is complete. Raises TruncatedStream if the end mark of the compressed body is missing."""


class IdentityDecompressor:
    """Decompressor that returns the bytes of the body unchanged."""

    def expand(self, data: bytes) -> Iterator[bytes]:
        """Yield `data` unchanged."""
        yield data

    def finish(self) -> None:
        """Do nothing, because the last frame of a stream already marks the end of the stream."""


class _CheckedDecompressor(ABC):
    """Base class of the decompressors for gzip, br and zstd. The class reports the errors of the compression libraries.

    The `offset` of an error is a position in the decompressed stream, as in every StreamError. The message of the error
    states a position in the compressed body.
    """

    name: str

    def __init__(self) -> None:
        self._compressed_bytes = 0
        self._expanded_bytes = 0

    def expand(self, data: bytes) -> Iterator[bytes]:
        """Yield the decompressed bytes of `data`. See Decompressor.expand."""
        try:
            for piece in self._pieces(data):
                self._expanded_bytes += len(piece)
                yield piece
        except (zlib.error, brotli.error, zstandard.ZstdError) as error:
            raise MalformedMessage(
                f"the {self.name} body cannot be decompressed after byte {self._compressed_bytes}: {_reason(error)}",
                self._expanded_bytes,
            ) from None
        self._compressed_bytes += len(data)

    def finish(self) -> None:
        """Check that the body is complete. See Decompressor.finish."""
        if not self._ended():
            raise TruncatedStream(
                f"the {self.name} body is incomplete: it ends after {self._compressed_bytes} bytes without an end mark",
                self._expanded_bytes,
            )

    @abstractmethod
    def _pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield the decompressed bytes of `data` in pieces of bounded size.

        Raises an exception of the compression library if `data` cannot be decompressed.
        """

    @abstractmethod
    def _ended(self) -> bool:
        """Return whether the end mark of the body was received."""

    def _refuse_trailing(self, count: int) -> None:
        if count:
            raise MalformedMessage(f"{count} bytes follow the end of the {self.name} body", self._expanded_bytes)


class GzipDecompressor(_CheckedDecompressor):
    """Decompressor for a gzip body (RFC 1952) that has a single member."""

    name = "gzip"

    def __init__(self) -> None:
        super().__init__()
        self._context = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        while data and not self._context.eof:
            yield self._context.decompress(data, PIECE_BYTES)
            data = self._context.unconsumed_tail
        # zlib may still hold output if the last piece had the maximum size.
        while not self._context.eof and (piece := self._context.decompress(b"", PIECE_BYTES)):
            yield piece
        self._refuse_trailing(len(self._context.unused_data) or (len(data) if self._context.eof else 0))

    def _ended(self) -> bool:
        return self._context.eof


class BrotliDecompressor(_CheckedDecompressor):
    """Decompressor for a Brotli body (RFC 7932)."""

    name = "br"

    def __init__(self) -> None:
        super().__init__()
        self._context = brotli.Decompressor()

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        if self._context.is_finished():
            self._refuse_trailing(len(data))
            return
        piece = self._context.process(data, output_buffer_limit=PIECE_BYTES)
        # can_accept_more_data() may be true although flushed output is still pending, so read until a piece is empty.
        while piece or not self._context.can_accept_more_data():
            yield piece
            if self._context.is_finished():
                return
            piece = self._context.process(b"", output_buffer_limit=PIECE_BYTES)

    def _ended(self) -> bool:
        return bool(self._context.is_finished())


class ZstdDecompressor(_CheckedDecompressor):
    """Decompressor for a Zstandard body (RFC 8878) that has a single zstd frame.

    Pass None as `dictionary` if the body was compressed without a dictionary. Raises StreamError if `dictionary` is not
    a zstd dictionary.
    """

    name = "zstd"

    def __init__(self, dictionary: bytes | None) -> None:
        super().__init__()
        try:
            prepared = None if dictionary is None else zstandard.ZstdCompressionDict(dictionary)
            decompressor = zstandard.ZstdDecompressor(dict_data=prepared, max_window_size=ZSTD_WINDOW_BYTES)
            self._context = decompressor.decompressobj()
            self._splitter = ZstdBlockSplitter(ZSTD_PIECE_BLOCKS)
        except zstandard.ZstdError as error:
            raise StreamError(f"the given dictionary is not a zstd dictionary: {_reason(error)}") from None

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        if self._context.eof:
            self._refuse_trailing(len(data))
        for piece in self._splitter.split(data):
            yield self._context.decompress(piece)
            self._refuse_trailing(len(self._context.unused_data))

    def _ended(self) -> bool:
        return bool(self._context.eof)


_LIBRARY_PREFIX = re.compile(r"^(zstd decompress(or)? error: |Error -?\d+ while decompressing data: |brotli: )")


def _reason(error: Exception) -> str:
    text = first_line(error)
    if "Dictionary mismatch" in text:
        return "the body needs a zstd dictionary that was not given or that differs from the given one"
    return _LIBRARY_PREFIX.sub("", text)
