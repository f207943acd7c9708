"""ZstdBlockSplitter: pieces of any frame, in any chunking, expand to a bounded size."""

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_wire.decompression import ZstdDecompressor
from codec_wire.errors import MalformedMessage
from codec_wire.zstd_blocks import MAX_BLOCK_BYTES, ZstdBlockSplitter
from tests.support.dictionaries import DICTIONARY


@st.composite
def zstd_frames(draw: st.DrawFn) -> tuple[bytes, bytes, bytes | None]:
    """Draw content, a zstd frame of it with any kind of header and any blocks, and the dictionary it needs."""
    parts = draw(
        st.lists(
            st.binary(max_size=300) | st.integers(0, 300_000).map(lambda size: b"a" * size), min_size=1, max_size=5
        )
    )
    dictionary = draw(st.sampled_from([None, DICTIONARY]))
    compressor = zstandard.ZstdCompressor(
        level=draw(st.sampled_from([1, 3, 9])),
        write_checksum=draw(st.booleans()),
        write_content_size=draw(st.booleans()),
        write_dict_id=draw(st.booleans()),
        dict_data=None if dictionary is None else zstandard.ZstdCompressionDict(dictionary),
    )
    content = b"".join(parts)
    if draw(st.booleans()):
        return content, compressor.compress(content), dictionary
    stream = compressor.compressobj(size=len(content) if draw(st.booleans()) else -1)
    flushed = [stream.compress(part) + stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for part in parts]
    return content, b"".join([*flushed, stream.flush()]), dictionary


@settings(max_examples=80, deadline=None)
@given(zstd_frames(), st.integers(1, 4), st.lists(st.integers(0, 3000), max_size=8))
def test_pieces_are_the_frame_and_expand_to_a_bounded_size(
    frame: tuple[bytes, bytes, bytes | None], max_blocks: int, cuts: list[int]
) -> None:
    content, body, dictionary = frame
    edges = [0, *sorted(cut for cut in cuts if cut < len(body)), len(body)]
    splitter = ZstdBlockSplitter(max_blocks)
    pieces = [piece for start, end in zip(edges, edges[1:], strict=False) for piece in splitter.split(body[start:end])]
    assert b"".join(pieces) == body
    prepared = None if dictionary is None else zstandard.ZstdCompressionDict(dictionary)
    context = zstandard.ZstdDecompressor(dict_data=prepared).decompressobj()
    expanded = [context.decompress(piece) for piece in pieces]
    assert b"".join(expanded) == content
    assert max(map(len, expanded), default=0) <= (max_blocks + 1) * MAX_BLOCK_BYTES


def test_block_header_across_chunks_is_parsed() -> None:
    body = zstandard.ZstdCompressor().compress(bytes(2**20))
    splitter = ZstdBlockSplitter(1)
    pieces = [piece for byte in body for piece in splitter.split(bytes([byte]))]
    assert pieces == [bytes([byte]) for byte in body]
    assert len(list(ZstdBlockSplitter(1).split(body))) == 8


def test_a_piece_of_a_bomb_has_a_bounded_size() -> None:
    body = zstandard.ZstdCompressor(level=9).compress(bytes(2**28))
    assert len(body) < 2**15
    sizes = [len(piece) for piece in ZstdDecompressor(None).expand(body)]
    assert sum(sizes) == 2**28
    assert max(sizes) <= 9 * MAX_BLOCK_BYTES


@pytest.mark.parametrize("data", [b"", b"\x28\xb5", b"not a zstd frame", b"\x50\x2a\x4d\x18\2\0\0\0abmore"])
def test_other_bytes_are_returned_unchanged_in_one_piece(data: bytes) -> None:
    assert b"".join(ZstdBlockSplitter(1).split(data)) == data


@pytest.mark.parametrize("kind", [3, 2])
def test_invalid_blocks_are_malformed(kind: int) -> None:
    frame = b"\x28\xb5\x2f\xfd\x00\x58" + (kind << 1 | 2**20 << 3).to_bytes(3, "little") + bytes(100)
    with pytest.raises(MalformedMessage, match="cannot be decompressed"):
        list(ZstdDecompressor(None).expand(frame))
