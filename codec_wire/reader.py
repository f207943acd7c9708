"""Incremental reader of an uncompressed latent stream."""

from collections.abc import Iterator

from codec_wire.errors import SequenceError, StreamError, TruncatedStream
from codec_wire.framing import Framer, MsgpackFramer, ProtobufFramer
from codec_wire.latents import LatentFrame, LatentStreamHeader
from codec_wire.wire_format import WireFormat

MAX_HEADER_BYTES = 64 * 1024
FRAME_OVERHEAD_BYTES = 256
"""Maximum number of bytes that a frame message contains in addition to the frame data, such as keys and lengths."""


class StreamReader:
    """Parses the header and frames of one stream from chunks of any size.

    The reader checks that each message is valid and that no bytes follow the last frame. LatentDecoder checks the order
    and content of frames. Every error contains the offset of the invalid message. After an error, all further calls
    raise the same error. A message is buffered only until the caller consumes the message.
    """

    def __init__(self, wire_format: WireFormat) -> None:
        framer_class = MsgpackFramer if wire_format is WireFormat.MSGPACK else ProtobufFramer
        self._framer: Framer = framer_class(MAX_HEADER_BYTES)
        self.wire_format = wire_format
        self.offset = 0
        """Byte position in the stream at which the last returned message begins."""
        self._header_received = False
        self._done = False
        self._failure: StreamError | None = None

    @property
    def end(self) -> int:
        """Byte position in the stream at which the last returned message ends."""
        return self._framer.offset

    def feed(self, chunk: bytes) -> Iterator[LatentStreamHeader | LatentFrame]:
        """Add `chunk` and return an iterator over the messages that are complete.

        Messages are parsed while the iterator is consumed. The iterator raises MalformedMessage if a message is not
        valid, MessageTooLarge if a message is too large, and SequenceError if bytes follow the last frame.
        """
        if self._failure is None:
            self._framer.push(chunk)
        return self._messages()

    def close(self) -> None:
        """Mark the end of the stream. Raises TruncatedStream if the last frame was not received completely."""
        if self._failure is not None:
            raise self._failure
        if self._done:
            return
        offset, pending = self._framer.offset, self._framer.pending
        if pending:
            message = f"the stream ends within a message: only {pending} of its bytes were received"
            raise TruncatedStream(message, offset)
        missing = "a last frame (done: true)" if self._header_received else "a header"
        raise TruncatedStream(f"the stream ends without {missing}", offset)

    def _messages(self) -> Iterator[LatentStreamHeader | LatentFrame]:
        while (message := self._next()) is not None:
            yield message

    def _next(self) -> LatentStreamHeader | LatentFrame | None:
        if self._failure is not None:
            raise self._failure
        offset = self._framer.offset
        try:
            if self._done:
                if self._framer.pending:
                    raise SequenceError(f"{self._framer.pending} bytes follow the last frame")
                return None
            raw = self._framer.next()
            if raw is None:
                return None
            self.offset = offset
            return self._parse(raw)
        except StreamError as error:
            self._failure = type(error)(error.message, offset)
        raise self._failure

    def _parse(self, raw: object) -> LatentStreamHeader | LatentFrame:
        if self._header_received:
            frame = self._framer.parse_frame(raw)
            self._done = frame.done
            return frame
        header = self._framer.parse_header(raw)
        self._header_received = True
        max_data_bytes = header.pipeline_spec.frame_size(header.shape, header.dtype.numpy.itemsize, keyframe=True)
        self._framer.limit = max_data_bytes + FRAME_OVERHEAD_BYTES
        return header
