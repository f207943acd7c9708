"""Reads a latent stream from bytes that arrive in pieces of any size."""

from collections.abc import Iterator

from codec_wire.errors import SequenceError, StreamError, TruncatedStream
from codec_wire.formats import WireFormat
from codec_wire.framing import MsgpackFramer, ProtobufFramer, Framer
from codec_wire.latents import LatentFrame, LatentStreamHeader

MAX_HEADER_BYTES = 64 * 1024
FRAME_OVERHEAD_BYTES = 256
"""What a frame's message may take beside its data: keys, lengths, the finish reason."""


class StreamReader:
    """Yields the header and the frames of one stream; holds no more than was fed and not yet taken.

    Checks each message, and that nothing follows the last one. codec_wire.decoder checks the order of the frames and
    their contents. Every error has the byte offset at which the faulty message begins. After an error the reader is
    closed: every later call raises the same error.
    """

    def __init__(self, wire_format: WireFormat) -> None:
        splitter = MsgpackFramer if wire_format is WireFormat.MSGPACK else ProtobufFramer
        self._splitter: Framer = splitter(MAX_HEADER_BYTES)
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
        largest = header.pipeline_spec.frame_size(header.shape, header.dtype.numpy.itemsize, keyframe=True)
        self._splitter.limit = largest + FRAME_OVERHEAD_BYTES
        return header
