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
    """Yields the header and the frames of one stream; holds one message at the most.

    It checks each message and that nothing follows the last one. The order of the frames and what they hold is
    core.decoder's. Every error carries the byte at which the message at fault begins; after one the reader is done.
    """

    def __init__(self, wire_format: WireFormat) -> None:
        splitter = MsgpackSplitter if wire_format is WireFormat.MSGPACK else ProtobufSplitter
        self._splitter: Splitter = splitter(MAX_HEADER_BYTES)
        self._header_seen = False
        self._done = False

    def feed(self, chunk: bytes) -> Iterator[LatentStreamHeader | LatentFrame]:
        """Yield what `chunk` completes.

        Raises MalformedMessage, MessageTooLarge, or SequenceError for bytes after the last frame.
        """
        try:
            for raw in self._splitter.split(chunk):
                if self._done:
                    raise SequenceError("a message came after the last frame")
                yield self._parsed(raw)
            if self._done and self._splitter.pending:
                raise SequenceError(f"{self._splitter.pending} bytes came after the last frame")
        except StreamError as error:
            if error.offset is not None:
                raise
            raise type(error)(error.message, self._splitter.offset) from None

    def close(self) -> None:
        """Say that no bytes follow. Raises TruncatedStream when the last frame has not come whole."""
        if self._done:
            return
        offset, pending = self._splitter.offset, self._splitter.pending
        if pending:
            raise TruncatedStream(f"the stream ends within a message, after {pending} of its bytes", offset)
        missing = "a frame that is done" if self._header_seen else "a header"
        raise TruncatedStream(f"the stream ends without {missing}", offset)

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
