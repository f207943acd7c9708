"""Incremental decoder that decompresses and parses an HTTP body with bounded memory."""

from collections import deque
from collections.abc import Iterator, Mapping

from codec_wire import StreamReader, WireFormat
from codec_wire.codings import find_coding
from codec_wire.digest import is_digest
from codec_wire.errors import MessageTooLarge, StreamError, TruncatedStream, truncated_repr
from codec_wire.format_detection import detect_wire_format
from codec_wire.http import ZSTD_DICTIONARY_HEADER
from codec_wire.latents import LatentFrame, LatentStreamHeader

MAX_BYTES = 2**30
"""Default limit of the decompressed size of a body, in bytes.

The limit is about three times the size of the latents of a 2048x2048 video with 720 frames.
"""

Message = LatentStreamHeader | LatentFrame


class MessageDecoder:
    """Decompresses an HTTP body, and parses the header and the frames of the latent stream in the body.

    If `wire_format` is not given, the wire format is detected from the first byte. `encoding` is the content coding of
    the body. `dictionary` is the zstd dictionary with which the body was compressed, or None for a body without a
    dictionary. `max_bytes` is the maximum size of the decompressed body. The decoder buffers at most one message and
    one bounded piece of decompressed data. To decode frames to latents, use codec_client.LatentStreamDecoder. Raises
    StreamError if the content coding is unknown or `dictionary` is not valid.
    """

    def __init__(
        self,
        wire_format: WireFormat | None = None,
        encoding: str = "identity",
        dictionary: bytes | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._decompressor = find_coding(encoding).decompressor(dictionary)
        self._reader = None if wire_format is None else StreamReader(wire_format)
        self._max_bytes = max_bytes
        self._chunks: deque[bytes] = deque()
        self._current: Iterator[Message] = iter(())
        self._failure: StreamError | None = None
        self.received = 0
        """Number of bytes received, before decompression."""
        self.expanded = 0
        """Number of bytes after decompression."""

    @property
    def offset(self) -> int:
        """Byte position in the decompressed stream at which the last returned message begins."""
        return 0 if self._reader is None else self._reader.offset

    @property
    def end(self) -> int:
        """Byte position in the decompressed stream at which the last returned message ends."""
        return 0 if self._reader is None else self._reader.end

    @property
    def wire_format(self) -> WireFormat | None:
        """Wire format of the body, or None until the wire format is detected."""
        return None if self._reader is None else self._reader.wire_format

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """Add `chunk` and return an iterator over the messages that are complete.

        If the caller does not consume all messages, the iterator of the next call begins with the remaining messages.
        The iterator raises StreamError if the body is not valid or if the decompressed size of the body exceeds
        `max_bytes`. After an error, all later calls raise the same error.
        """
        self.received += len(chunk)
        self._chunks.append(chunk)
        return self._messages()

    def close(self) -> None:
        """Mark the end of the body.

        Raises TruncatedStream if the body is incomplete. Raises StreamError if the caller has not consumed all messages
        and a remaining message is not valid.
        """
        for _ in self._messages():  # parse the messages that were received but not consumed
            pass
        try:
            if self._reader is None:
                raise TruncatedStream("the stream is empty", 0)
            self._reader.close()
            self._decompressor.finish()
        except StreamError as error:
            self._failure = error
            raise

    def _messages(self) -> Iterator[Message]:
        while (message := self._next()) is not None:
            yield message

    def _next(self) -> Message | None:
        """Return the next message, or None if more bytes are needed."""
        if self._failure is not None:
            raise self._failure
        try:
            while (message := next(self._current, None)) is None:
                if not self._chunks:
                    return None
                self._current = self._decode_chunk(self._chunks.popleft())
        except StreamError as error:
            self._failure = error
            raise
        return message

    def _decode_chunk(self, chunk: bytes) -> Iterator[Message]:
        for piece in self._decompressor.expand(chunk):
            self.expanded += len(piece)
            if self.expanded > self._max_bytes:
                raise MessageTooLarge(f"the decompressed body exceeds max_bytes ({self._max_bytes} bytes)")
            if self._reader is None and piece:
                self._reader = StreamReader(detect_wire_format(piece))
            if self._reader is None:
                continue
            for message in self._reader.feed(piece):
                if isinstance(message, LatentStreamHeader):
                    self._check_total_size(message)
                yield message

    def _check_total_size(self, header: LatentStreamHeader) -> None:
        frame_bytes = header.pipeline_spec.frame_size(header.shape, header.dtype.numpy.itemsize, keyframe=False)
        total_bytes = frame_bytes * (header.total_frames or 1)
        if total_bytes > self._max_bytes:
            raise MessageTooLarge(
                f"the header announces {total_bytes} bytes of frames, more than max_bytes ({self._max_bytes} bytes)",
                0,
            )


def parse_stream_headers(headers: Mapping[str, str]) -> tuple[WireFormat, str, str | None]:
    """Return the wire format, the content coding and the hash of the zstd dictionary from the headers of a response.

    The hash has the value None if the body was compressed without a zstd dictionary.

    Raises StreamError if the response is not a latent stream, or if the value of the header Codec-Zstd-Dict is not a
    hash. Raises StreamError also if only one of the headers `Content-Encoding: zstd` and Codec-Zstd-Dict is present.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    content_type = lower.get("content-type", "").partition(";")[0].strip().lower()
    wire_format = next((found for found in WireFormat if content_type.endswith(found)), None)
    if wire_format is None:
        raise StreamError(f"the response is not a latent stream: its Content-Type is {content_type or 'missing'}")
    encoding = lower.get("content-encoding", "identity").strip().lower()
    digest = lower.get(ZSTD_DICTIONARY_HEADER.lower())
    if find_coding(encoding).uses_dictionary != (digest is not None):
        raise StreamError(
            f"the response has the Content-Encoding {encoding} and the header {ZSTD_DICTIONARY_HEADER} "
            f"{digest or '(missing)'}; Content-Encoding zstd and this header must be sent together"
        )
    if digest is not None and not is_digest(digest):
        raise StreamError(f"{ZSTD_DICTIONARY_HEADER} must be sha256:<64 hex>, got {truncated_repr(digest)}")
    return wire_format, encoding, digest
