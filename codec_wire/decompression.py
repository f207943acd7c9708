"""Undoes a body's content coding as it arrives, a bounded piece at a time: a bomb is met before it is expanded."""

import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol

import brotli
import zstandard

from codec_wire.errors import MalformedMessage, StreamError, TruncatedStream

PIECE_BYTES = 64 * 1024
"""How much of a gzip or br body is expanded at once."""
ZSTD_INPUT_BYTES = 256
"""How much of a zstd body is taken at once: a block is at least 4 bytes and at most 128 KiB expanded, so at most
8 MiB come of it. The library has no way to stop in between."""
ZSTD_WINDOW_BYTES = 8 * 1024 * 1024
"""What a decoder of the content coding must be ready to hold, and need not exceed (RFC 9659)."""


class Decompressor(Protocol):
    """One body's decompression."""

    def expand(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` expands to, in bounded pieces, expanded as they are taken.

        Raises MalformedMessage for bytes that are not of this coding, or that follow its end. The next call comes
        after the last piece was taken.
        """

    def finish(self) -> None:
        """Say that no bytes follow. Raises TruncatedStream where the coding's own end has not come."""


class Identity:
    """No compression."""

    def expand(self, data: bytes) -> Iterator[bytes]:
        """Yield `data`."""
        yield data

    def finish(self) -> None:
        """Do nothing: the stream itself says where it ends."""


class _Coding(ABC):
    """What the three codings share: where one breaks, its end, and that nothing follows it.

    Errors carry, as all of a stream do, a byte of what it expands to; their words count those that came.
    """

    name: str

    def __init__(self) -> None:
        self._taken = 0
        self._given = 0

    def expand(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` expands to. See Decompressor."""
        try:
            for piece in self._pieces(data):
                self._given += len(piece)
                yield piece
        except (zlib.error, brotli.error, zstandard.ZstdError) as error:
            place = f"behind byte {self._taken} of the {self.name} body"
            raise MalformedMessage(f"{place}, it cannot be expanded: {_reason(error)}", self._given) from None
        self._taken += len(data)

    def finish(self) -> None:
        """Say that no bytes follow. See Decompressor."""
        if not self._ended():
            raise TruncatedStream(f"the {self.name} body ends before its end mark, at {self._taken} bytes", self._given)

    @abstractmethod
    def _pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` expands to, within the budget."""

    @abstractmethod
    def _ended(self) -> bool:
        """Return whether the body's end mark has come."""

    def _refuse_more(self, count: int) -> None:
        if count:
            raise MalformedMessage(f"{count} bytes follow the end of the {self.name} body", self._given)


class Gzip(_Coding):
    """RFC 1952, one member."""

    name = "gzip"

    def __init__(self) -> None:
        super().__init__()
        self._context = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        while data and not self._context.eof:
            yield self._context.decompress(data, PIECE_BYTES)
            data = self._context.unconsumed_tail
        # Where the last piece was as large as it may be, more may wait inside.
        while not self._context.eof and (piece := self._context.decompress(b"", PIECE_BYTES)):
            yield piece
        self._refuse_more(len(self._context.unused_data) or (len(data) if self._context.eof else 0))

    def _ended(self) -> bool:
        return self._context.eof


class Brotli(_Coding):
    """RFC 7932."""

    name = "br"

    def __init__(self) -> None:
        super().__init__()
        self._context = brotli.Decompressor()

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        if self._context.is_finished():
            self._refuse_more(len(data))
            return
        piece = self._context.process(data, output_buffer_limit=PIECE_BYTES)
        # It says that it can take more while it still holds what a flush completed.
        while piece or not self._context.can_accept_more_data():
            yield piece
            if self._context.is_finished():
                return
            piece = self._context.process(b"", output_buffer_limit=PIECE_BYTES)

    def _ended(self) -> bool:
        return bool(self._context.is_finished())


class Zstd(_Coding):
    """RFC 8878, one frame, with the dictionary it was made with or without one."""

    name = "zstd"

    def __init__(self, dictionary: bytes | None) -> None:
        super().__init__()
        trained = None if dictionary is None else zstandard.ZstdCompressionDict(dictionary)
        self._context = zstandard.ZstdDecompressor(dict_data=trained, max_window_size=ZSTD_WINDOW_BYTES).decompressobj()

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), ZSTD_INPUT_BYTES):
            if self._context.eof:
                self._refuse_more(len(data) - start)
            yield self._context.decompress(data[start : start + ZSTD_INPUT_BYTES])
            self._refuse_more(len(self._context.unused_data))

    def _ended(self) -> bool:
        return bool(self._context.eof)


CODINGS = ("identity", "gzip", "br", "zstd")


def decompressor(coding: str, dictionary: bytes | None = None) -> Decompressor:
    """Return what undoes `coding`, as Content-Encoding names it; `dictionary` is zstd's.

    Raises StreamError for a coding that is none of CODINGS, and for bytes that are no dictionary.
    """
    name = coding.strip().lower()
    if name in ("", "identity"):
        return Identity()
    if name in ("gzip", "x-gzip"):
        return Gzip()
    if name == "br":
        return Brotli()
    if name == "zstd":
        try:
            return Zstd(dictionary)
        except zstandard.ZstdError as error:
            raise StreamError(f"this is no zstd dictionary: {_reason(error)}") from None
    raise StreamError(f"the content coding must be one of {', '.join(CODINGS)}, got {coding!r}")


_LIBRARYS_OWN = re.compile(r"^(zstd decompress(or)? error: |Error -?\d+ while decompressing data: |brotli: )")


def _reason(error: Exception) -> str:
    text = str(error).splitlines() or [type(error).__name__]
    if "Dictionary mismatch" in text[0]:
        return "it was made with another dictionary than the one given, or one is needed and none was given"
    return _LIBRARYS_OWN.sub("", text[0])
