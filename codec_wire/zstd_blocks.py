"""Detection of the block boundaries in a zstd frame (RFC 8878, section 3.1.1) without decompression.

The zstandard library cannot limit the output of a decompressor call. A zstd block has at most 128 KiB after
decompression. To limit the output of a decompressor call, this module limits the number of blocks in the input of the
call.
"""

from collections.abc import Iterator

MAX_BLOCK_BYTES = 128 * 1024
"""Largest decompressed size of a block."""

_MAGIC = b"\x28\xb5\x2f\xfd"
_DESCRIPTOR_END = len(_MAGIC) + 1
_DICTIONARY_ID_BYTES = (0, 1, 2, 4)
_CONTENT_SIZE_BYTES = (0, 2, 4, 8)
_BLOCK_HEADER_BYTES = 3
_RLE_BLOCK = 1


class ZstdBlockSplitter:
    """Splits the bytes of one zstd frame, received in chunks of any size, into pieces.

    At most `max_blocks` blocks begin in a piece. A piece can also contain the rest of a block that began in an earlier
    piece. The number of bytes after the last block is not limited, because a decompressor rejects or ignores these
    bytes.
    """

    def __init__(self, max_blocks: int) -> None:
        self._max_blocks = max_blocks
        self._partial = bytearray()
        """The received bytes of an incomplete frame header or block header."""
        self._in_frame_header = True
        self._skip: int | None = 0
        """Number of bytes before the next header, or None if no header follows."""

    def split(self, data: bytes) -> Iterator[bytes]:
        """Yield pieces whose concatenation is `data`. Exhaust the iterator before you call this method again."""
        start = position = blocks = 0
        while self._skip is not None and position + self._skip < len(data):
            position += self._skip
            self._skip = 0
            if blocks == self._max_blocks:
                yield data[start:position]
                start, blocks = position, 0
            needed = self._header_size() - len(self._partial)
            self._partial += data[position : position + needed]
            position = min(position + needed, len(data))
            if len(self._partial) == self._header_size():
                blocks += not self._in_frame_header
                self._parse_header()
        if self._skip is not None:
            self._skip -= len(data) - position
        if start < len(data):
            yield data[start:]

    def _header_size(self) -> int:
        """Return the size of the current header in bytes.

        If the size of the header is not known yet, return the number of bytes from which the size can be determined.
        """
        if not self._in_frame_header:
            return _BLOCK_HEADER_BYTES
        if len(self._partial) < _DESCRIPTOR_END:
            return _DESCRIPTOR_END
        descriptor = self._partial[_DESCRIPTOR_END - 1]
        single_segment = descriptor >> 5 & 1
        size_code = descriptor >> 6
        content_size = 1 if single_segment and size_code == 0 else _CONTENT_SIZE_BYTES[size_code]
        return _DESCRIPTOR_END + (1 - single_segment) + _DICTIONARY_ID_BYTES[descriptor & 3] + content_size

    def _parse_header(self) -> None:
        """Set `_skip` to the distance to the next header, computed from the complete header in `_partial`."""
        if self._in_frame_header:
            self._skip = 0 if self._partial.startswith(_MAGIC) else None
            self._in_frame_header = False
        else:
            header = int.from_bytes(self._partial, "little")
            last, kind, size = header & 1, header >> 1 & 3, header >> 3
            self._skip = None if last else 1 if kind == _RLE_BLOCK else size
        self._partial.clear()
