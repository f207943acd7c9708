"""LatentStreamDecoder: any chunking, coding and format; truncated, corrupt and oversized streams."""

import gzip
import tracemalloc
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import brotli
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from codec_client import LatentStreamDecoder
from codec_wire import WireFormat, encode
from codec_wire.codings import CODINGS
from codec_wire.decoder import LatentDecoder
from codec_wire.encoder import LatentEncoder
from codec_wire.errors import (
    MalformedMessage,
    MessageTooLarge,
    SequenceError,
    StreamError,
    StreamFailed,
    TruncatedStream,
)
from codec_wire.latents import FinishReason, LatentDtype, LatentFrame, LatentStreamHeader
from tests.support.dictionaries import DICTIONARY, DIGEST
from tests.support.sample_stream import BODY, FRAMES, HEADER, HEADER_LENGTH
from tests.support.strategies import Stream, encoded, streams

pytestmark = pytest.mark.slow

formats = st.sampled_from(WireFormat)
codings = st.sampled_from(list(CODINGS))


def body_of(
    messages: Iterable[LatentStreamHeader | LatentFrame], wire_format: WireFormat, coding: str = "identity"
) -> bytes:
    compressor = CODINGS[coding].compressor(DICTIONARY)
    return b"".join([*(compressor.compress(encode(message, wire_format)) for message in messages), compressor.finish()])


def decoder_for(coding: str, wire_format: WireFormat | None = None, **options: Any) -> LatentStreamDecoder[Any]:
    dictionary = DICTIONARY if coding == "zstd" else None
    return LatentStreamDecoder(wire_format, encoding=coding, dictionary=dictionary, **options)


def decoded(decoder: LatentStreamDecoder[Any], pieces: Iterable[bytes]) -> list[NDArray[Any]]:
    found = [latents for piece in pieces for latents in decoder.feed(piece)]
    decoder.close()
    return found


@settings(max_examples=150)
@given(streams(max_frames=4), formats, codings, st.booleans(), st.lists(st.integers(0, 4000), max_size=12))
def test_any_chunking_gives_the_same_latents(
    stream: Stream, wire_format: WireFormat, coding: str, explicit_format: bool, cuts: list[int]
) -> None:
    header, frames = encoded(stream)
    body = body_of([header, *frames], wire_format, coding)
    edges = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    decoder = decoder_for(coding, wire_format if explicit_format else None)
    found = decoded(decoder, (body[start:end] for start, end in zip(edges, edges[1:], strict=False)))
    reference = LatentDecoder(header)
    expected = [reference.decode(frame) for frame in frames]
    assert decoder.header == header
    assert decoder.frames == len(frames)
    assert all(np.array_equal(*pair) and pair[0].dtype == pair[1].dtype for pair in zip(found, expected, strict=True))


@settings(max_examples=100)
@given(streams(max_frames=3), formats, codings, st.data())
def test_every_truncation_raises_truncated_stream(
    stream: Stream, wire_format: WireFormat, coding: str, data: st.DataObject
) -> None:
    header, frames = encoded(stream)
    body = body_of([header, *frames], wire_format, coding)
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(TruncatedStream):
        decoded(decoder_for(coding, wire_format), [body[:cut]])


@settings(max_examples=300)
@given(streams(max_frames=2), formats, codings, st.data())
def test_corrupt_bytes_raise_stream_error_or_decode_to_a_valid_stream(
    stream: Stream, wire_format: WireFormat, coding: str, data: st.DataObject
) -> None:
    header, frames = encoded(stream)
    body = bytearray(body_of([header, *frames], wire_format, coding))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    decoder = decoder_for(coding)
    try:
        found = decoded(decoder, [bytes(body)])
    except StreamError as error:
        with pytest.raises(type(error)):
            list(decoder.feed(b""))
    else:
        assert decoder.header is not None
        assert all(latents.shape == decoder.header.shape for latents in found)


@settings(max_examples=200)
@given(st.binary(max_size=300), codings)
def test_random_bytes_raise_stream_error(noise: bytes, coding: str) -> None:
    with pytest.raises(StreamError):
        decoded(decoder_for(coding), [noise])


def test_error_has_the_offset_of_its_message_and_is_raised_again() -> None:
    decoder = LatentStreamDecoder()
    with pytest.raises(SequenceError, match=f"at byte {HEADER_LENGTH}: expected frame 0, got frame 1") as caught:
        decoded(decoder, [body_of([HEADER, FRAMES[1], FRAMES[0]], WireFormat.MSGPACK)])
    assert caught.value.offset == HEADER_LENGTH
    with pytest.raises(SequenceError, match=f"at byte {HEADER_LENGTH}"):
        list(decoder.feed(BODY))


def test_finish_reason_error_raises_stream_failed() -> None:
    failed = LatentFrame(b"", 1, keyframe=True, done=True, finish_reason=FinishReason.ERROR)
    decoder = LatentStreamDecoder()
    latents = decoder.feed(body_of([HEADER, FRAMES[0], failed], WireFormat.PROTOBUF))
    assert np.array_equal(next(latents), np.zeros((1, 2)))
    with pytest.raises(StreamFailed, match="the sender reported an error at frame 1"):
        next(latents)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_bytes_after_the_compressed_body_raise_stream_error(coding: str) -> None:
    body = body_of([HEADER, *FRAMES], WireFormat.MSGPACK, coding)
    for pieces in ([body + b"x"], [body, b"x"]):
        with pytest.raises(StreamError, match="bytes? follow|cannot be decompressed"):
            decoded(decoder_for(coding), pieces)


def test_unconsumed_latents_are_returned_by_the_next_call() -> None:
    decoder = LatentStreamDecoder()
    for start in range(0, len(BODY), 3):
        decoder.feed(BODY[start : start + 3])
    assert len(list(decoder.feed(b""))) == 2
    decoder.close()
    many = LatentStreamDecoder()
    for byte in BODY * 400:
        many.feed(bytes([byte]))
    with pytest.raises(SequenceError, match="bytes follow the last frame"):
        many.close()


def test_torch_arrays_are_writable_tensors() -> None:
    import torch

    decoder = LatentStreamDecoder(arrays="torch")
    (tensor, _) = decoder.feed(BODY)
    assert (tensor.dtype, tuple(tensor.shape)) == (torch.float16, (1, 2))
    tensor += 1


def test_response_headers_select_format_coding_and_dictionary() -> None:
    headers = {"content-type": "application/x-codec-protobuf", "Content-Encoding": "zstd", "codec-zstd-dict": DIGEST}
    decoder = LatentStreamDecoder.for_response(headers, {DIGEST: DICTIONARY})
    assert len(decoded(decoder, [body_of([HEADER, *FRAMES], WireFormat.PROTOBUF, "zstd")])) == 2
    with pytest.raises(StreamError, match="needs the zstd dictionary sha256:"):
        LatentStreamDecoder.for_response(headers, {})
    for wrong in (
        {"Content-Type": "text/html"},
        {"Content-Type": "application/x-msgpack", "Content-Encoding": "zstd"},
        {"Content-Type": "application/x-msgpack", "Codec-Zstd-Dict": DIGEST},
        {"Content-Type": "application/x-msgpack", "Content-Encoding": "compress"},
    ):
        with pytest.raises(StreamError):
            LatentStreamDecoder.for_response(wrong, {DIGEST: DICTIONARY})


def test_zstd_body_without_its_dictionary_raises_malformed_message() -> None:
    body = body_of([HEADER, *FRAMES], WireFormat.MSGPACK, "zstd")
    with pytest.raises(MalformedMessage, match="dictionary"):
        decoded(LatentStreamDecoder(encoding="zstd"), [body])


def zeros(wire_format: WireFormat, shape: tuple[int, ...], count: int) -> Iterator[bytes]:
    header = LatentStreamHeader("a/b", shape, LatentDtype.FP16, "raw", fps=24, total_frames=count)
    yield encode(header, wire_format)
    data = bytes(2 * int(np.prod(shape)))
    for seq in range(count):
        yield encode(LatentFrame(data, seq, keyframe=True, done=seq == count - 1), wire_format)


def packed(coding: str, pieces: Iterable[bytes]) -> bytes:
    if coding == "gzip":
        context = zlib.compressobj(9, wbits=31)
        return b"".join([*map(context.compress, pieces), context.flush()])
    if coding == "br":
        brotli_context = brotli.Compressor(quality=9)
        return b"".join([*map(brotli_context.process, pieces), brotli_context.finish()])
    zstd_context = zstandard.ZstdCompressor(level=9).compressobj()
    return b"".join([*map(zstd_context.compress, pieces), zstd_context.flush()])


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_decompression_bomb_is_rejected_before_it_is_expanded(coding: str) -> None:
    shape = (4, 512, 512)  # 2 MiB a frame, 80 MiB in all
    body = packed(coding, zeros(WireFormat.MSGPACK, shape, 40))
    assert len(body) < 200_000
    announced = LatentStreamDecoder(encoding=coding, max_bytes=2**25)
    with pytest.raises(MessageTooLarge, match="the header announces 83886080 bytes"):
        decoded(announced, [body])
    # The header announces one frame, but the first message after it is larger than max_bytes.
    one = encode(LatentStreamHeader("a/b", (1, 2), LatentDtype.FP16, "raw"), WireFormat.PROTOBUF)
    endless = packed(coding, [one, b"\xff" * 2**26])
    tracemalloc.start()
    try:
        with pytest.raises(MessageTooLarge):
            decoded(LatentStreamDecoder(encoding=coding, max_bytes=2**25), [endless])
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("coding", CODINGS)
def test_frame_is_returned_before_any_byte_of_the_next_message(coding: str) -> None:
    rng = np.random.default_rng(0)
    header = LatentStreamHeader("a/b", (4, 64, 64), LatentDtype.FP16, "raw", fps=24, total_frames=3)
    encoder, compressor, decoder = LatentEncoder(header), CODINGS[coding].compressor(DICTIONARY), decoder_for(coding)
    assert not list(decoder.feed(compressor.compress(encode(header, WireFormat.MSGPACK))))
    assert decoder.header == header
    for seq in range(3):
        latents = rng.standard_normal(header.shape).astype(np.float16)
        frame = encoder.encode(latents, keyframe=True, last=seq == 2)
        message = compressor.compress(encode(frame, WireFormat.MSGPACK))
        chunks = [message[start : start + 1000] for start in range(0, len(message), 1000)]
        assert np.array_equal([found for chunk in chunks for found in decoder.feed(chunk)], [latents])
    list(decoder.feed(compressor.finish()))
    decoder.close()


def test_stream_without_total_frames_is_limited_by_max_bytes() -> None:
    header = LatentStreamHeader("a/b", (4, 64, 64), LatentDtype.FP16, "raw")
    body = encode(header, WireFormat.MSGPACK) + b"".join(
        encode(LatentFrame(bytes(32768), seq, keyframe=True, done=False), WireFormat.MSGPACK) for seq in range(8)
    )
    decoder = LatentStreamDecoder(encoding="gzip", max_bytes=100_000)
    with pytest.raises(MessageTooLarge, match="exceeds max_bytes .100000 bytes."):
        list(decoder.feed(gzip.compress(body)))
    assert decoder.frames in (1, 2, 3)


def peak_of_decoding(coding: str, wire_format: WireFormat, count: int) -> int:
    """Return the peak memory in bytes while `count` raw frames of 512x512 pixels are decoded."""
    rng = np.random.default_rng(0)
    header = LatentStreamHeader("a/b", (4, 64, 64), LatentDtype.FP16, "raw", fps=24, total_frames=count)
    encoder, compressor = LatentEncoder(header), CODINGS[coding].compressor(DICTIONARY)
    latents = rng.standard_normal(header.shape).astype(np.float16)
    decoder = decoder_for(coding, wire_format)
    assert list(decoder.feed(compressor.compress(encode(header, wire_format)))) == []
    tracemalloc.start()
    try:
        for seq in range(count):
            frame = encoder.encode(latents, keyframe=True, last=seq == count - 1)
            assert len(list(decoder.feed(compressor.compress(encode(frame, wire_format))))) == 1
        decoder_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    list(decoder.feed(compressor.finish()))
    decoder.close()
    return decoder_bytes


@pytest.fixture(scope="module")
def own_process() -> Iterator[ProcessPoolExecutor]:
    """Return an executor with one new process, whose memory no thread of other tests changes."""
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        yield executor


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("wire_format", WireFormat)
def test_memory_does_not_grow_with_the_number_of_frames(
    coding: str, wire_format: WireFormat, own_process: ProcessPoolExecutor
) -> None:
    def peak(count: int) -> int:
        return own_process.submit(peak_of_decoding, coding, wire_format, count).result()

    few, many = peak(10), peak(100 if coding == "br" else 720)
    assert many < few + 64 * 1024
