"""The table of content codings.

To add a content coding, add a row to this table, a compressor to the module `compression`, and a decompressor to the
module `decompression`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from codec_wire.compression import BrotliCompressor, Compressor, GzipCompressor, IdentityCompressor, ZstdCompressor
from codec_wire.decompression import (
    BrotliDecompressor,
    Decompressor,
    GzipDecompressor,
    IdentityDecompressor,
    ZstdDecompressor,
)
from codec_wire.errors import StreamError, truncated_repr

IDENTITY = "identity"


@dataclass(frozen=True, slots=True)
class Coding:
    """A content coding, with its compressor and its decompressor.

    `name` is the token of the coding in Accept-Encoding and Content-Encoding. `magic` contains the bytes with which
    every compressed body begins. `magic` is only set if the coding defines magic bytes. If `uses_dictionary` is true,
    the only argument of `compressor_class` and `decompressor_class` is the bytes of a dictionary, or None.
    """

    name: str
    compressor_class: Callable[..., Compressor]
    decompressor_class: Callable[..., Decompressor]
    magic: bytes | None = None
    aliases: tuple[str, ...] = ()
    uses_dictionary: bool = False

    def compressor(self, dictionary: bytes | None = None) -> Compressor:
        """Return a compressor for one body. A coding without dictionaries ignores `dictionary`."""
        return self.compressor_class(*self._arguments(dictionary))

    def decompressor(self, dictionary: bytes | None = None) -> Decompressor:
        """Return a decompressor for one body. Raises StreamError if `dictionary` is not valid."""
        return self.decompressor_class(*self._arguments(dictionary))

    def _arguments(self, dictionary: bytes | None) -> tuple[Any, ...]:
        return (dictionary,) if self.uses_dictionary else ()


CODINGS: dict[str, Coding] = {
    coding.name: coding
    for coding in (
        Coding("zstd", ZstdCompressor, ZstdDecompressor, b"\x28\xb5\x2f\xfd", uses_dictionary=True),
        Coding("br", BrotliCompressor, BrotliDecompressor),
        Coding("gzip", GzipCompressor, GzipDecompressor, b"\x1f\x8b", aliases=("x-gzip",)),
        Coding(IDENTITY, IdentityCompressor, IdentityDecompressor),
    )
}
"""Dictionary of the content codings by name, in the server's order of preference."""


def find_coding(name: str) -> Coding:
    """Return the content coding with the name `name`.

    The case of `name` is ignored, and an empty `name` means the coding `identity`. Raises StreamError if the content
    coding is not supported.
    """
    token = name.strip().lower() or IDENTITY
    for coding in CODINGS.values():
        if token == coding.name or token in coding.aliases:
            return coding
    raise StreamError(f"the content coding must be one of {', '.join(CODINGS)}, got {truncated_repr(name)}")
