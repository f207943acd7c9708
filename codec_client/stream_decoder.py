"""From the bytes of a body, wherever they come from, to latents: incremental, strict, in bounded memory."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from codec_wire import WireFormat
from codec_wire.decoder import DecodedLatent, LatentDecoder
from codec_wire.errors import StreamError
from codec_wire.latents import LatentStreamHeader
from codec_wire.message_decoder import MAX_BYTES, Message, MessageDecoder, coding_named_by

if TYPE_CHECKING:
    from torch import Tensor

ArrayT = TypeVar("ArrayT")


class LatentStreamDecoder(Generic[ArrayT]):
    """Decodes one latent stream, fed in pieces of any size, to latents of the header's shape.

        decoder = LatentStreamDecoder()
        for chunk in chunks:
            for latents in decoder.feed(chunk):
                ...
        decoder.close()

    Latents are as they travel, scaled: divide by the map's vae_scale_factor before a VAE's decoder (decode_to_images
    does). `raw` gives the map's dtype, fp16 or fp32; the quantized pipelines give float32. Arrays are read-only.

    Every way in which the bytes can break the contract is a StreamError that says at which byte of the (expanded)
    stream, and is raised again whatever is asked afterwards.
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
        """Make a decoder for one stream.

        `wire_format` is told from the first byte for None; `encoding` is what Content-Encoding says and `dictionary`
        the file that Codec-Zstd-Dict names; `max_bytes` is what the body may expand to; `arrays` is what comes out.
        """
        self._messages = MessageDecoder(
            None if wire_format is None else WireFormat(wire_format), encoding, dictionary, max_bytes
        )
        self._convert: Any = _kept if arrays == "numpy" else _tensor
        self._decoder: LatentDecoder | None = None
        self._failure: StreamError | None = None
        self.header: LatentStreamHeader | None = None
        self.frames = 0

    @classmethod
    def for_response(
        cls, headers: Mapping[str, str], dictionaries: Mapping[str, bytes], max_bytes: int = MAX_BYTES
    ) -> "LatentStreamDecoder[DecodedLatent]":
        """Return the decoder for an HTTP answer with these headers, giving NumPy arrays.

        `dictionaries` holds zstd dictionaries by their hash, sha256:<hex>, as LatentMapBundle.assets does. Raises
        StreamError for a format, a coding or a dictionary that is not known here.
        """
        wire_format, encoding, digest = coding_named_by(headers)
        if digest is not None and digest not in dictionaries:
            raise StreamError(f"the body needs the zstd dictionary {digest}, which is not at hand")
        dictionary = None if digest is None else dictionaries[digest]
        return LatentStreamDecoder(wire_format, encoding=encoding, dictionary=dictionary, max_bytes=max_bytes)

    def feed(self, chunk: bytes) -> Iterator[ArrayT]:
        """Take `chunk`, and return the latents that it completes, decoded as they are taken.

        What is not taken comes first the next time. Raises StreamError.
        """
        messages = self._messages.feed(chunk)
        return self._latents(messages)

    def close(self) -> None:
        """Say that no bytes follow. Raises TruncatedStream when the last frame has not come whole."""
        for _ in self._latents(self._messages.feed(b"")):
            pass
        self._messages.close()
        if self._decoder is not None:
            self._decoder.close()

    def _latents(self, messages: Iterator[Message]) -> Iterator[ArrayT]:
        if self._failure is not None:
            raise self._failure
        for message in messages:
            if isinstance(message, LatentStreamHeader):
                self.header = message
                self._decoder = LatentDecoder(message)
                continue
            assert self._decoder is not None  # noqa: S101 - the reader gives the header first
            try:
                latents = self._decoder.decode(message)
            except StreamError as error:
                self._failure = type(error)(error.message, self._messages.offset)
                raise self._failure from None
            self.frames += 1
            yield self._convert(latents)


def _kept(latents: DecodedLatent) -> DecodedLatent:
    return latents


def _tensor(latents: DecodedLatent) -> "Tensor":
    from codec_wire.pipelines import torch_math  # noqa: PLC0415 - whoever wants no tensors has no torch

    return torch_math.tensor_of(latents)
