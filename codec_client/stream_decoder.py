"""Incremental decoder that turns the bytes of a response body into latents."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from codec_wire import WireFormat
from codec_wire.decoder import DecodedLatent, LatentDecoder
from codec_wire.errors import StreamError
from codec_wire.latents import LatentStreamHeader
from codec_wire.message_decoder import MAX_BYTES, Message, MessageDecoder, parse_stream_headers

if TYPE_CHECKING:
    from torch import Tensor

ArrayT = TypeVar("ArrayT")


class LatentStreamDecoder(Generic[ArrayT]):
    """Decodes one latent stream to latent frames [C, h, w]. The stream is received in chunks of any size.

        decoder = LatentStreamDecoder()
        for chunk in chunks:
            for latents in decoder.feed(chunk):
                ...
        decoder.close()

    Latents are not yet divided by the map's vae_scale_factor. Divide the latents by vae_scale_factor before you pass
    the latents to a VAE. The function decode_to_images divides latents by vae_scale_factor itself. Latents of the
    encoding pipeline `raw` have the map's dtype, float16 or float32. Latents of encoding pipelines that quantize are
    float32. Decoded NumPy arrays are read-only. Memory use does not grow with the number of frames.

    If the stream is invalid, a StreamError is raised. The StreamError states the byte offset of the invalid message in
    the decompressed stream. After an error, every further call raises the same error.

    Attributes:
        header: The stream header, or None before the header is received.
        frames: Number of decoded latent frames.

    """

    @overload
    def __init__(
        self: "LatentStreamDecoder[DecodedLatent]",
        wire_format: WireFormat | str | None = None,
        *,
        encoding: str = "identity",
        dictionary: bytes | None = None,
        max_bytes: int = MAX_BYTES,
        arrays: Literal["numpy"] = "numpy",
    ) -> None: ...
    @overload
    def __init__(
        self: "LatentStreamDecoder[Tensor]",
        wire_format: WireFormat | str | None = None,
        *,
        encoding: str = "identity",
        dictionary: bytes | None = None,
        max_bytes: int = MAX_BYTES,
        arrays: Literal["torch"],
    ) -> None: ...
    def __init__(
        self,
        wire_format: WireFormat | str | None = None,
        *,
        encoding: str = "identity",
        dictionary: bytes | None = None,
        max_bytes: int = MAX_BYTES,
        arrays: Literal["numpy", "torch"] = "numpy",
    ) -> None:
        """Create a decoder for one stream.

        Args:
            wire_format: "msgpack" or "protobuf". Default: the wire format is detected from the first byte of the
                decompressed body.
            encoding: Content coding of the body, one of identity, gzip, br and zstd.
            dictionary: The zstd dictionary that the response's Codec-Zstd-Dict header names.
            max_bytes: Maximum size of the decompressed body in bytes.
            arrays: Type of the decoded arrays, "numpy" or "torch".

        """
        self._messages = MessageDecoder(
            None if wire_format is None else WireFormat(wire_format), encoding, dictionary, max_bytes
        )
        self._convert: Any = _identity if arrays == "numpy" else _to_tensor
        self._decoder: LatentDecoder | None = None
        self._failure: StreamError | None = None
        self.header: LatentStreamHeader | None = None
        self.frames = 0

    @classmethod
    def for_response(
        cls, headers: Mapping[str, str], dictionaries: Mapping[str, bytes], max_bytes: int = MAX_BYTES
    ) -> "LatentStreamDecoder[DecodedLatent]":
        """Return a decoder for an HTTP response with the headers `headers`. The decoder returns NumPy arrays.

        `dictionaries` contains zstd dictionaries by hash ("sha256:<hex>"), such as LatentMapBundle.assets.

        Raises:
            StreamError: the Content-Type or Content-Encoding is not supported, or the dictionary is missing.

        """
        wire_format, encoding, digest = parse_stream_headers(headers)
        if digest is not None and digest not in dictionaries:
            raise StreamError(f"the response needs the zstd dictionary {digest}, which is not in `dictionaries`")
        dictionary = None if digest is None else dictionaries[digest]
        return LatentStreamDecoder(wire_format, encoding=encoding, dictionary=dictionary, max_bytes=max_bytes)

    def feed(self, chunk: bytes) -> Iterator[ArrayT]:
        """Add `chunk` to the input and return an iterator over the latent frames that are now complete.

        Frames are decoded while the iterator is consumed. The iterator that the next call of `feed` returns begins with
        the frames that were not consumed.

        Raises:
            StreamError: the stream is invalid. The call of `feed` or the returned iterator raises the error.

        """
        messages = self._messages.feed(chunk)
        return self._decode(messages)

    def close(self) -> None:
        """Mark the end of the input.

        Raises:
            TruncatedStream: the last frame is incomplete or missing.
            StreamError: a frame that was not consumed is invalid.

        """
        for _ in self._decode(self._messages.feed(b"")):
            pass
        self._messages.close()
        if self._decoder is not None:
            self._decoder.close()

    def _decode(self, messages: Iterator[Message]) -> Iterator[ArrayT]:
        if self._failure is not None:
            raise self._failure
        for message in messages:
            if isinstance(message, LatentStreamHeader):
                self.header = message
                self._decoder = LatentDecoder(message)
                continue
            assert self._decoder is not None  # noqa: S101 - MessageDecoder returns the header first
            try:
                latents = self._decoder.decode(message)
            except StreamError as error:
                self._failure = type(error)(error.message, self._messages.offset)
                raise self._failure from None
            self.frames += 1
            yield self._convert(latents)


def _identity(latents: DecodedLatent) -> DecodedLatent:
    return latents


def _to_tensor(latents: DecodedLatent) -> "Tensor":
    from codec_wire.pipelines import torch_math  # noqa: PLC0415 - imports torch

    return torch_math.to_tensor(latents)
