"""Strict readers of a latent stream that a client sends.

The readers check every frame and return the frame unchanged.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from codec_wire import WireFormat
from codec_wire.codings import IDENTITY, Coding, find_coding
from codec_wire.decoder import LatentDecoder
from codec_wire.dictionary_selection import find_dictionary
from codec_wire.errors import InvalidRequest, MalformedMessage, StreamError, TruncatedStream
from codec_wire.format_detection import identify_foreign_file
from codec_wire.latents import LatentStreamHeader
from codec_wire.message_decoder import Message, MessageDecoder

LATENTS_FIELD = "latents"
"""Name of the received stream in error messages."""
MAX_STREAM_BYTES = 128 * 1024 * 1024
"""Maximum decompressed size of a received stream in bytes.

For comparison, the latents of 720 frames of 1024x1024 pixels in fp16 take 90 MiB.
"""
_HEAD_BYTES = 64
"""Number of leading bytes from which other file formats are recognized."""
_DICTIONARY_HEAD_BYTES = 18
"""Maximum length of a zstd frame header in bytes (RFC 8878, 3.1.1.1).

A zstd frame header contains the id of the dictionary.
"""


class MessageReader:
    """Reader of a stream that is received as a header message and frame messages."""

    def __init__(self) -> None:
        self._decoder: LatentDecoder | None = None
        self._received_bytes = 0

    def add(self, message: Message, offset: int | None = None) -> Message:
        """Check the next message of the stream and return the message.

        `offset` is the position of the message in the stream in bytes, or None if the position is unknown.

        Raises InvalidRequest if the message is out of order or has invalid values, or if the stream exceeds
        MAX_STREAM_BYTES.
        """
        with invalid_stream():
            try:
                self._check(message)
            except StreamError as error:
                raise type(error)(error.message, offset if error.offset is None else error.offset) from None
        return message

    def close(self) -> None:
        """Raise InvalidRequest if the stream is incomplete."""
        with invalid_stream():
            if self._decoder is None:
                raise TruncatedStream("the stream is empty")
            self._decoder.close()

    def _check(self, message: Message) -> None:
        if isinstance(message, LatentStreamHeader):
            if self._decoder is not None:
                raise StreamError("the stream has a second header")
            self._decoder = LatentDecoder(message)
            return
        if self._decoder is None:
            raise StreamError("the stream begins with a frame; its header is missing")
        self._received_bytes += len(message.data)
        if self._received_bytes > MAX_STREAM_BYTES:
            raise StreamError(f"the frames have more than {MAX_STREAM_BYTES} bytes")
        self._decoder.decode(message)


class BodyReader:
    """Reader of a stream that is received as the bytes of an HTTP body.

    Without `wire_format`, the format is detected from the first byte of the stream. `encoding` is the content coding of
    the body, as in the header Content-Encoding. `dictionaries` contains the zstd dictionaries of the served
    latent-space maps. The keys of `dictionaries` are the hashes of the zstd dictionaries. Raises InvalidRequest if
    `encoding` is not supported.
    """

    def __init__(self, wire_format: WireFormat | None, encoding: str, dictionaries: Mapping[str, bytes]) -> None:
        with invalid_stream():
            self._coding = find_coding(encoding)
        self._wire_format = wire_format
        self._dictionaries = dictionaries
        self._messages: MessageDecoder | None = None
        self._checks = MessageReader()
        self._head = b""

    def feed(self, chunk: bytes) -> list[Message]:
        """Add `chunk` and return the messages that `chunk` completes.

        Raises InvalidRequest if the body is not a valid latent stream. The InvalidRequest contains the byte position of
        the error.
        """
        with invalid_stream():
            decoder = self._messages
            if decoder is None:
                self._head += chunk
                if self._coding.uses_dictionary and len(self._head) < _DICTIONARY_HEAD_BYTES:
                    return []
                decoder, chunk = self._open(), self._head
            return [self._checks.add(message, decoder.offset) for message in decoder.feed(chunk)]

    def close(self) -> list[Message]:
        """Tell the reader that the body has ended. Return the remaining messages of the stream.

        Raises InvalidRequest if the body or the stream is incomplete.
        """
        with invalid_stream():
            messages: list[Message] = []
            if self._messages is None:
                decoder = self._open()
                messages = [self._checks.add(message, decoder.offset) for message in decoder.feed(self._head)]
            assert self._messages is not None  # noqa: S101 - set by _open
            self._messages.close()
        self._checks.close()
        return messages

    def _open(self) -> MessageDecoder:
        self._messages = open_body(self._head, self._wire_format, self._coding, self._dictionaries)
        return self._messages


def open_body(
    head: bytes, wire_format: WireFormat | None, coding: Coding, dictionaries: Mapping[str, bytes]
) -> MessageDecoder:
    """Return a decoder for a body that begins with `head`. See BodyReader.

    Raises StreamError if the body is not a latent stream or needs a dictionary that is not in `dictionaries`.
    """
    foreign = identify_foreign_file(head[:_HEAD_BYTES]) if coding.name == IDENTITY else None
    if foreign is not None:
        raise MalformedMessage(f"the body must be a latent stream, but it is {foreign}", 0)
    dictionary = find_dictionary(head, dictionaries) if coding.uses_dictionary else None
    return MessageDecoder(wire_format, coding.name, dictionary, MAX_STREAM_BYTES)


@contextmanager
def invalid_stream() -> Iterator[None]:
    """Convert a StreamError in the `with` block to InvalidRequest, because the client has sent the stream."""
    try:
        yield
    except StreamError as error:
        raise InvalidRequest(LATENTS_FIELD, str(error)) from None
