"""StreamReader: independence of chunk boundaries, and a StreamError for every kind of damage."""

import struct

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_wire import StreamReader, WireFormat, encode
from codec_wire.errors import MalformedMessage, MessageTooLarge, SequenceError, StreamError, TruncatedStream
from codec_wire.latents import FinishReason, LatentDtype, LatentFrame, LatentStreamHeader
from tests.support.strategies import Stream, encoded, streams

Messages = list[LatentStreamHeader | LatentFrame]
formats = st.sampled_from(WireFormat)


def body_of(messages: Messages, wire_format: WireFormat) -> bytes:
    return b"".join(encode(message, wire_format) for message in messages)


def read(body: bytes, wire_format: WireFormat) -> Messages:
    reader = StreamReader(wire_format)
    messages = list(reader.feed(body))
    reader.close()
    return messages


def with_shortest_integers(body: bytes, wire_format: WireFormat) -> bytes:
    """Return a valid body with its integers in the form that encoders use; in msgpack, 0 can also be 5 bytes long."""
    if wire_format is not WireFormat.MSGPACK:
        return body
    unpacker = msgpack.Unpacker()
    unpacker.feed(body)
    return b"".join(msgpack.packb(message) for message in unpacker)


@pytest.mark.slow
@settings(max_examples=150)
@given(streams(max_frames=4), formats, st.lists(st.integers(0, 4000), max_size=12))
def test_messages_do_not_depend_on_chunk_boundaries(stream: Stream, wire_format: WireFormat, cuts: list[int]) -> None:
    header, frames = encoded(stream)
    body = body_of([header, *frames], wire_format)
    edges = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    reader = StreamReader(wire_format)
    found: Messages = []
    for start, end in zip(edges, edges[1:], strict=False):
        found += reader.feed(body[start:end])
    reader.close()
    assert found == [header, *frames]


@pytest.mark.slow
@settings(max_examples=100)
@given(streams(max_frames=3), formats, st.data())
def test_truncated_stream_raises_truncated_stream(stream: Stream, wire_format: WireFormat, data: st.DataObject) -> None:
    header, frames = encoded(stream)
    body = body_of([header, *frames], wire_format)
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(TruncatedStream) as caught:
        read(body[:cut], wire_format)
    assert caught.value.offset is not None
    assert caught.value.offset <= cut


@pytest.mark.slow
@settings(max_examples=100)
@given(streams(max_frames=2), formats, st.binary(min_size=1, max_size=20))
def test_bytes_after_the_last_frame_raise_stream_error(stream: Stream, wire_format: WireFormat, more: bytes) -> None:
    header, frames = encoded(stream)
    body = body_of([header, *frames], wire_format)
    with pytest.raises(StreamError, match=f"at byte {len(body)}"):
        read(body + more, wire_format)
    reader = StreamReader(wire_format)
    assert list(reader.feed(body)) == [header, *frames]
    with pytest.raises(StreamError):
        list(reader.feed(more))


@pytest.mark.slow
@settings(max_examples=300)
@given(streams(max_frames=2), formats, st.data())
def test_damaged_bytes_raise_stream_error_or_form_another_valid_stream(
    stream: Stream, wire_format: WireFormat, data: st.DataObject
) -> None:
    header, frames = encoded(stream)
    body = bytearray(body_of([header, *frames], wire_format))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read(bytes(body), wire_format)
    except StreamError as error:
        assert error.offset is not None
    else:  # the damage is within data or a number, so the messages must encode to the damaged bytes
        assert body_of(found, wire_format) == with_shortest_integers(bytes(body), wire_format)


@settings(max_examples=200)
@given(st.binary(max_size=300), formats)
def test_random_bytes_raise_stream_error(noise: bytes, wire_format: WireFormat) -> None:
    with pytest.raises(StreamError):
        read(noise, wire_format)


HEADER = LatentStreamHeader("a/b", (1, 2), LatentDtype.FP16, "raw")
FRAME = LatentFrame(bytes(4), 0, keyframe=True, done=True, finish_reason=FinishReason.OK)


def test_integers_in_a_longer_form_are_read() -> None:
    header = LatentStreamHeader("a/b", (1, 2), LatentDtype.FP16, "raw", total_frames=1)
    shortest = body_of([header, FRAME], WireFormat.MSGPACK)
    longer = shortest.replace(b"\xactotal_frames\x01", b"\xactotal_frames\xcd\x00\x01")
    assert len(longer) == len(shortest) + 2
    assert read(longer, WireFormat.MSGPACK) == [header, FRAME]


@pytest.mark.parametrize("wire_format", WireFormat)
def test_second_header_raises_malformed_message(wire_format: WireFormat) -> None:
    with pytest.raises(MalformedMessage):
        read(body_of([HEADER, HEADER, FRAME], wire_format), wire_format)


@pytest.mark.parametrize("wire_format", WireFormat)
def test_frame_before_the_header_raises_stream_error(wire_format: WireFormat) -> None:
    with pytest.raises(StreamError, match="at byte 0"):
        read(body_of([FRAME], wire_format), wire_format)


@pytest.mark.parametrize("wire_format", WireFormat)
def test_second_frame_with_done_raises_sequence_error(wire_format: WireFormat) -> None:
    with pytest.raises(SequenceError):
        read(body_of([HEADER, FRAME, FRAME], wire_format), wire_format)


@pytest.mark.parametrize("wire_format", WireFormat)
def test_oversized_frame_raises_before_it_is_buffered(wire_format: WireFormat) -> None:
    reader = StreamReader(wire_format)
    list(reader.feed(encode(HEADER, wire_format)))
    large = encode(LatentFrame(bytes(2**24), 0, keyframe=True, done=True), wire_format)
    with pytest.raises(MessageTooLarge, match="256|260"):
        list(reader.feed(large[: 2**17]))


@pytest.mark.parametrize("wire_format", WireFormat)
def test_reader_repeats_its_first_error(wire_format: WireFormat) -> None:
    reader = StreamReader(wire_format)
    with pytest.raises(StreamError) as first:
        list(reader.feed(encode(FRAME, wire_format)))
    with pytest.raises(type(first.value), match="at byte 0"):
        list(reader.feed(body_of([HEADER, FRAME], wire_format)))
    with pytest.raises(type(first.value), match="at byte 0"):
        reader.close()


@pytest.mark.parametrize("wire_format", WireFormat)
def test_unconsumed_messages_are_returned_by_the_next_feed(wire_format: WireFormat) -> None:
    reader = StreamReader(wire_format)
    assert next(reader.feed(body_of([HEADER, FRAME], wire_format))) == HEADER
    assert list(reader.feed(b"")) == [FRAME]
    reader.close()


def test_huge_protobuf_length_raises_message_too_large() -> None:
    with pytest.raises(MessageTooLarge):
        list(StreamReader(WireFormat.PROTOBUF).feed(struct.pack(">I", 2**32 - 1)))


@pytest.mark.parametrize(
    "head",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\x81\xa1a\xdd\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
    ],
)
def test_huge_msgpack_size_raises_stream_error(head: bytes) -> None:
    with pytest.raises(StreamError):
        read(head, WireFormat.MSGPACK)


def test_deeply_nested_msgpack_raises_stream_error() -> None:
    with pytest.raises(StreamError):
        read(b"\x81\xa1a" * 50_000, WireFormat.MSGPACK)


@pytest.mark.parametrize("value", [1, "text", [1], b"bytes", None])
def test_msgpack_value_other_than_a_map_raises_malformed_message(value: object) -> None:
    with pytest.raises(MalformedMessage, match="at byte 0: expected a msgpack map"):
        read(msgpack.packb(value), WireFormat.MSGPACK)


def test_repeated_key_raises_malformed_message() -> None:
    body = bytearray(encode(HEADER, WireFormat.MSGPACK))
    body[0] += 1  # one more pair in the map
    with pytest.raises(MalformedMessage, match="contains the same key twice"):
        read(bytes(body) + msgpack.packb("dtype") + msgpack.packb("fp16"), WireFormat.MSGPACK)


def test_string_that_is_not_utf8_raises_malformed_message() -> None:
    body = encode(HEADER, WireFormat.MSGPACK).replace(b"a/b", b"a\xff\xfe")
    with pytest.raises(MalformedMessage):
        read(body, WireFormat.MSGPACK)
