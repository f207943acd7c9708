"""Requests to decode and encode latents, in the form that the HTTP, gRPC and in-process clients share."""

import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from codec_client.results import Generation
from codec_wire import WireFormat, encode
from codec_wire.codings import IDENTITY
from codec_wire.encoder import LatentEncoder
from codec_wire.errors import InvalidRequest, truncated_repr
from codec_wire.format_detection import detect_coding
from codec_wire.latents import LatentDtype
from codec_wire.request import parse_request

if TYPE_CHECKING:
    from PIL.Image import Image

FileFormat: TypeAlias = Literal["png", "jpeg", "webp", "mp4"]
MAX_QUALITY = 100
RGB = "rgb"
"""Name of the pixel format for plain RGB values, which are not in a file format such as PNG."""
_PNG_MODES = frozenset(("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"))
"""Modes of PIL images that can be saved as PNG."""


@dataclass(frozen=True, slots=True)
class DecodingRequest:
    """A request to decode a latent stream.

    `body` is the body of a response. `encoding` is the content coding of `body`. `pixel_format` is the constant RGB or
    one of the values of FileFormat. `quality` is the quality of JPEG and WebP files, from 0 to 100. `model` is the name
    of a model. Without `model`, the server selects a model by the latent space of the stream.
    """

    body: bytes
    encoding: str
    pixel_format: str = RGB
    quality: int = MAX_QUALITY
    model: str | None = None

    @property
    def is_image_file(self) -> bool:
        """Whether the pixels are requested as one image file."""
        return self.pixel_format not in (RGB, "mp4")


@dataclass(frozen=True, slots=True)
class EncodingRequest:
    """A request to encode an image or video file.

    For a field with the value None, the server uses a default value. `size` is (width, height) in pixels. `seed` is the
    random seed with which the latents are sampled from the distribution that the VAE computes. Without `seed`, the
    latents are the mode of the distribution that the VAE computes.
    """

    file: bytes
    model: str | None = None
    latent_space: str | None = None
    pipeline: str = "raw"
    size: tuple[int, int] | None = None
    keyframe_interval: int | None = None
    seed: int | None = None


def checked_encoding_request(request: EncodingRequest) -> EncodingRequest:
    """Return `request` with the values that a server uses: a random seed is selected if the seed is -1.

    Raises InvalidRequest if a value is out of range. The server checks the other properties of the request.
    """
    values = {"size": request.size, "keyframe_interval": request.keyframe_interval, "seed": request.seed}
    fields = parse_request({"prompt": "-"} | {name: value for name, value in values.items() if value is not None})
    return replace(
        request,
        size=fields.size,
        keyframe_interval=fields.keyframe_interval,
        seed=None if request.seed is None else fields.seed,
    )


def decoding_request(
    latents: bytes | Generation,
    pixel_format: str,
    *,
    quality: int = MAX_QUALITY,
    model: str | None,
    encoding: str | None,
) -> DecodingRequest:
    """Return the request to decode `latents`, either a Generation or the body of a response.

    If `latents` is a body, `encoding` is the content coding of the body. If `encoding` is not given, the content coding
    is detected from the body. If `latents` is a Generation, `encoding` is ignored.

    Raises InvalidRequest if `pixel_format` is unknown or `quality` is out of range.
    """
    if pixel_format != RGB and pixel_format not in get_args(FileFormat):
        allowed = ", ".join(get_args(FileFormat))
        raise InvalidRequest("file_format", f"must be one of {allowed}, got {truncated_repr(pixel_format)}")
    if not 0 <= quality <= MAX_QUALITY:
        raise InvalidRequest("quality", f"must be from 0 to {MAX_QUALITY}, got {quality}")
    if isinstance(latents, Generation):
        return DecodingRequest(_raw_stream(latents), IDENTITY, pixel_format, quality, model)
    return DecodingRequest(bytes(latents), encoding or detect_coding(latents), pixel_format, quality, model)


def _raw_stream(generation: Generation) -> bytes:
    """Return a stream with the encoding pipeline `raw` that decodes to exactly the latents of `generation`."""
    dtype = LatentDtype.FP16 if generation.latents.dtype == np.float16 else LatentDtype.FP32
    num_frames = len(generation.latents)
    header = replace(generation.header, pipeline="raw", dtype=dtype, scales=None, total_frames=num_frames)
    encoder, last = LatentEncoder(header), num_frames - 1
    frames = [encoder.encode(latent, keyframe=True, last=seq == last) for seq, latent in enumerate(generation.latents)]
    return encode(header, WireFormat.MSGPACK) + b"".join(encode(frame, WireFormat.MSGPACK) for frame in frames)


def file_bytes(file: "bytes | Image") -> bytes:
    """Return the bytes of an image or video file. A PIL image is saved as a PNG file with the same pixels."""
    if isinstance(file, bytes | bytearray | memoryview):
        return bytes(file)
    buffer = io.BytesIO()
    (file if file.mode in _PNG_MODES else file.convert("RGB")).save(buffer, "PNG")
    return buffer.getvalue()
