"""Reads a latent stream from bytes that arrive in pieces of any size."""

from collections.abc import Iterator

from codec_wire.formats import WireFormat
from codec_wire.splitting import MsgpackSplitter, ProtobufSplitter, Splitter
from core.errors import SequenceError, StreamError, TruncatedStream
from core.latents import LatentFrame, LatentStreamHeader

MAX_HEADER_BYTES = 64 * 1024
FRAME_OVERHEAD_BYTES = 256
"""What a frame's message may take beside its data: keys, lengths, the finish reason."""


class StreamReader:
    """Yields the header and the frames of one stream; holds no more than was fed and not yet taken.

    It checks each message and that nothing follows the last one. The order of the frames and what they hold is
    core.decoder's. Every error carries the byte at which the message at fault begins; after one the reader is done,
    and whatever is asked of it raises that error again.
    """

    def __init__(self, wire_format: WireFormat) -> None:
        splitter = MsgpackSplitter if wire_format is WireFormat.MSGPACK else ProtobufSplitter
        self._splitter: Splitter = splitter(MAX_HEADER_BYTES)
        self.wire_format = wire_format
        self.offset = 0
        """Byte of the stream at which the message last returned begins."""
        self._header_seen = False
        self._done = False
        self._failure: StreamError | None = None

    @property
    def end(self) -> int:
        """Byte of the stream behind the message last returned."""
        return self._splitter.offset

    def feed(self, chunk: bytes) -> Iterator[LatentStreamHeader | LatentFrame]:
        """Take `chunk`, and return what it completes, read as it is taken.

        Raises MalformedMessage, MessageTooLarge, or SequenceError for bytes after the last frame.
        """
        if self._failure is None:
            self._splitter.push(chunk)
        return self._messages()

    def close(self) -> None:
        """Say that no bytes follow. Raises TruncatedStream when the last frame has not come whole."""
        if self._failure is not None:
            raise self._failure
        if self._done:
            return
        offset, pending = self._splitter.offset, self._splitter.pending
        if pending:
            raise TruncatedStream(f"the stream ends within a message, after {pending} of its bytes", offset)
        missing = "a frame that is done" if self._header_seen else "a header"
        raise TruncatedStream(f"the stream ends without {missing}", offset)

    def _messages(self) -> Iterator[LatentStreamHeader | LatentFrame]:
        while (message := self._next()) is not None:
            yield message

    def _next(self) -> LatentStreamHeader | LatentFrame | None:
        if self._failure is not None:
            raise self._failure
        offset = self._splitter.offset
        try:
            if self._done:
                if self._splitter.pending:
                    raise SequenceError(f"{self._splitter.pending} bytes came after the last frame")
                return None
            raw = self._splitter.next()
            if raw is None:
                return None
            self.offset = offset
            return self._parsed(raw)
        except StreamError as error:
            self._failure = type(error)(error.message, offset)
        raise self._failure

    def _parsed(self, raw: object) -> LatentStreamHeader | LatentFrame:
        if self._header_seen:
            frame = self._splitter.parse_frame(raw)
            self._done = frame.done
            return frame
        header = self._splitter.parse_header(raw)
        self._header_seen = True
        largest = header.row.frame_size(header.shape, header.dtype.numpy.itemsize, keyframe=True)
        self._splitter.limit = largest + FRAME_OVERHEAD_BYTES
        return header
