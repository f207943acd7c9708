"""Input latents of a request, which a client sends instead of an input image.

Input latents have the format of a latent stream with one image.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from codec_wire.codings import CODINGS, IDENTITY, Coding
from codec_wire.decoder import LatentDecoder
from codec_wire.errors import InvalidRequest, SequenceError, StreamError, TruncatedStream
from codec_wire.format_detection import detect_coding
from codec_wire.latents import LatentFrame, LatentStreamHeader
from core.received_stream import LATENTS_FIELD, invalid_stream, open_body

MAX_LATENTS_BYTES = 8 * 1024 * 1024
"""Maximum size of the received body in bytes. Latents of 2048x2048 pixels with 16 channels in fp32 take 4 MiB."""
MAX_LATENT_VALUE = 1000.0
"""Maximum absolute value of latents.

VAEs return values below 100. Much larger values overflow in the layers of a model.
"""
_BROTLI = CODINGS["br"]


@dataclass(frozen=True, slots=True)
class InputLatents:
    """The body of a latent stream from a request. Only the header of the stream was parsed."""

    data: bytes
    coding: str
    """Name of the content coding of `data`."""
    header: LatentStreamHeader
    dictionaries: Mapping[str, bytes] = field(compare=False, repr=False)
    """The zstd dictionaries with which `data` may be compressed. The keys are the hashes of the zstd dictionaries."""

    def __repr__(self) -> str:
        return f"InputLatents({self.header.pipeline}, {list(self.header.shape)}, {len(self.data)} bytes)"


def read_input_latents(data: bytes, dictionaries: Mapping[str, bytes]) -> InputLatents:
    """Return the latents in `data`. `data` may have any wire format and any content coding.

    Only the header is parsed, so that a body that would expand to gigabytes is rejected without decompression.
    `dictionaries` contains the available zstd dictionaries by hash. Raises InvalidRequest if `data` is too long or has
    no valid header.
    """
    if len(data) > MAX_LATENTS_BYTES:
        raise InvalidRequest(LATENTS_FIELD, f"must have at most {MAX_LATENTS_BYTES} bytes, got {len(data)}")
    coding = CODINGS[detect_coding(data)]
    try:
        header = _read_header(data, coding, dictionaries)
    except InvalidRequest as error:
        if coding.name != IDENTITY:
            raise
        try:  # br has no magic bytes
            coding, header = _BROTLI, _read_header(data, _BROTLI, dictionaries)
        except InvalidRequest:
            raise error from None
    return InputLatents(data, coding.name, header, dictionaries)


def decode_input_latents(latents: InputLatents) -> NDArray[np.float32]:
    """Return the latents as float32 [C, h, w]. The scaling of the latents in the stream is not changed.

    Raises InvalidRequest if a latent value is not finite, or if an absolute value exceeds MAX_LATENT_VALUE. Raises
    InvalidRequest if the stream is invalid or incomplete. For an invalid stream, the InvalidRequest contains the byte
    position of the error.
    """
    with invalid_stream():
        body = open_body(latents.data, None, CODINGS[latents.coding], latents.dictionaries)
        messages = body.feed(latents.data)
        next(messages)  # the header
        frame = next(messages, None)
        if not isinstance(frame, LatentFrame):
            raise TruncatedStream("the stream ends before its first frame", body.end)
        if not frame.done:
            raise SequenceError("must be a latent stream of one image, got a second frame", body.offset)
        try:
            values = LatentDecoder(latents.header).decode(frame).astype(np.float32)
        except StreamError as error:
            raise type(error)(error.message, body.offset) from None
        body.close()
    if not np.all(np.abs(values) <= MAX_LATENT_VALUE):
        raise InvalidRequest(
            LATENTS_FIELD, f"values must be finite and from -{MAX_LATENT_VALUE:g} to {MAX_LATENT_VALUE:g}"
        )
    return values


def _read_header(data: bytes, coding: Coding, dictionaries: Mapping[str, bytes]) -> LatentStreamHeader:
    with invalid_stream():
        message = next(open_body(data, None, coding, dictionaries).feed(data), None)
    if not isinstance(message, LatentStreamHeader):
        raise InvalidRequest(LATENTS_FIELD, "the stream ends before the end of its header")
    return message
