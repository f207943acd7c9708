"""From the bytes of a body to the messages in it, whatever its coding and format, in bounded memory."""

from collections import deque
from collections.abc import Iterator, Mapping

from codec_wire import StreamReader, WireFormat
from codec_wire.codings import find_coding
from codec_wire.errors import MessageTooLarge, StreamError, TruncatedStream
from codec_wire.format_detection import detect_wire_format
from codec_wire.http import ZSTD_DICTIONARY_HEADER
from codec_wire.latents import LatentFrame, LatentStreamHeader

MAX_BYTES = 2**30
"""What a stream may expand to unless its reader says otherwise, in bytes: 720 frames of a 2048x2048 video take a
third of it."""
_FORMATS = {"msgpack": WireFormat.MSGPACK, "protobuf": WireFormat.PROTOBUF}

Message = LatentStreamHeader | LatentFrame


class MessageDecoder:
    """Turns a body's bytes into its header and frames, whatever its coding and format.

    Holds one message and one bounded piece of what is still to be expanded. See LatentStreamDecoder, which also
    turns the frames into latents.
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
        self._left = max_bytes
        self._max_bytes = max_bytes
        self._chunks: deque[bytes] = deque()
        self._current: Iterator[Message] = iter(())
        self._failure: StreamError | None = None
        self.received = 0
        self.expanded = 0

    @property
    def offset(self) -> int:
        """Byte of the expanded stream at which the message last returned begins."""
        return 0 if self._reader is None else self._reader.offset

    @property
    def end(self) -> int:
        """Byte of the expanded stream behind the message last returned."""
        return 0 if self._reader is None else self._reader.end

    @property
    def wire_format(self) -> WireFormat | None:
        """The format, None until the first byte told."""
        return None if self._reader is None else self._reader.wire_format

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """Take `chunk`, and return what it completes; what is not taken of that comes first the next time.

        Raises StreamError: the body is not what it should be, or expands to more than `max_bytes`.
        """
        self.received += len(chunk)
        self._chunks.append(chunk)
        return self._taken()

    def close(self) -> None:
        """Say that no bytes follow. Raises TruncatedStream when the stream has not ended."""
        for _ in self._taken():  # what was fed counts, whether it was taken or not
            pass
        try:
            if self._reader is None:
                raise TruncatedStream("the stream is empty", 0)
            self._reader.close()
            self._decompressor.finish()
        except StreamError as error:
            self._failure = error
            raise

    def _taken(self) -> Iterator[Message]:
        while (message := self._next()) is not None:
            yield message

    def _next(self) -> Message | None:
        """Return the next message, None where more must be fed; an error is the last word, whatever is fed after."""
        if self._failure is not None:
            raise self._failure
        try:
            while (message := next(self._current, None)) is None:
                if not self._chunks:
                    return None
                self._current = self._messages_of(self._chunks.popleft())
        except StreamError as error:
            self._failure = error
            raise
        return message

    def _messages_of(self, chunk: bytes) -> Iterator[Message]:
        for piece in self._decompressor.expand(chunk):
            self.expanded += len(piece)
            if self.expanded > self._max_bytes:
                raise MessageTooLarge(f"the body expands to more than {self._max_bytes} bytes (max_bytes)")
            if self._reader is None and piece:
                self._reader = StreamReader(detect_wire_format(piece))
            if self._reader is None:
                continue
            for message in self._reader.feed(piece):
                if isinstance(message, LatentStreamHeader):
                    self._refuse_too_large(message)
                yield message

    def _refuse_too_large(self, header: LatentStreamHeader) -> None:
        frame = header.pipeline_spec.frame_size(header.shape, header.dtype.numpy.itemsize, keyframe=False)
        announced = frame * (header.total_frames or 1)
        if announced > self._max_bytes:
            raise MessageTooLarge(
                f"the header announces {announced} bytes of frames, more than {self._max_bytes} (max_bytes)", 0
            )


def parse_stream_headers(headers: Mapping[str, str]) -> tuple[WireFormat, str, str | None]:
    """Return (format, content coding, hash of the zstd dictionary) as an answer's headers name them.

    Raises StreamError for an answer that is no latent stream, and for zstd without a dictionary or the reverse.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    content_type = lower.get("content-type", "").partition(";")[0].strip().lower()
    wire_format = next((found for name, found in _FORMATS.items() if content_type.endswith(name)), None)
    if wire_format is None:
        raise StreamError(f"the answer is no latent stream: its Content-Type is {content_type or 'missing'}")
    encoding = lower.get("content-encoding", "identity").strip().lower()
    digest = lower.get(ZSTD_DICTIONARY_HEADER.lower())
    if find_coding(encoding).uses_dictionary != (digest is not None):
        raise StreamError(f"zstd and {ZSTD_DICTIONARY_HEADER} come together: got {encoding} and {digest or 'none'}")
    return wire_format, encoding, digest
