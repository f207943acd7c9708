"""Interface that the HTTP, gRPC and in-process clients share."""

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from codec_client.attempts import run_before, run_with_retries
from codec_client.blocking import BlockingClient
from codec_client.cache import FileCache
from codec_client.latent_requests import (
    MAX_QUALITY,
    RGB,
    DecodingRequest,
    EncodingRequest,
    FileFormat,
    checked_encoding_request,
    decoding_request,
    file_bytes,
)
from codec_client.received_pixels import ReceivedPixels
from codec_client.results import DecodedPixels, Generation, ServedModel
from codec_client.stream import (
    DEFAULT_PREVIEW_EVERY,
    LatentStream,
    OnPreview,
    OnProgress,
    ReceivedStream,
    ResponseState,
    read_generation,
)
from codec_wire.errors import InvalidSettings
from codec_wire.events import StreamEvent
from codec_wire.maps import LatentMapBundle, parse_map_pin
from codec_wire.maps.latent_rgb import LatentRgb
from codec_wire.request import GenerationRequest, parse_request

if TYPE_CHECKING:
    from PIL.Image import Image

TIMEOUT_S = 600.0
RETRIES = 2


class LatentClient(ABC):
    """Async client of one server, used in an `async with` statement.

    `blocking()` returns a client with blocking methods.

    Args:
        api_key: API key that is sent to the server as a bearer token. By default, no API key is sent.
        timeout_s: Timeout in seconds for one generation, decoding or encoding, including all retries.
        retries: Maximum number of times that a request is sent again if the server does not respond, is overloaded or
            is not ready. A request is not sent again once a part of the result has been received.
        pinned_map: Hash ("sha256:<hex>") of the only latent-space map that the client accepts. A response with a map
            other than `pinned_map` raises MapMismatch. By default, every map is accepted.
        cache_dir: Directory that caches maps and dictionaries. By default, the directory is default_cache_dir().

    Raises:
        InvalidSettings: `timeout_s` is not greater than 0, or `retries` is less than 0.

    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        pinned_map: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if not timeout_s > 0:
            raise InvalidSettings(f"timeout_s must be a number of seconds greater than 0, got {timeout_s}")
        if retries < 0:
            raise InvalidSettings(f"retries must be at least 0, got {retries}")
        self.api_key = api_key
        self.timeout_s = timeout_s
        self.retries = retries
        self.pinned_map = parse_map_pin(pinned_map)
        self.cache = FileCache(None if cache_dir is None else Path(cache_dir))

    def stream(
        self,
        prompt: str,
        *,
        on_progress: OnProgress | None = None,
        on_preview: OnPreview | None = None,
        **fields: Any,
    ) -> LatentStream:
        """Return a stream for one generation. The request is sent when the stream is entered with `async with`.

        `fields` are the fields of codec_wire.request.GenerationRequest, for example size=(512, 512), steps=20, seed=7
        or pipeline="int8". `on_progress` is called with a Progress after every received event. `on_preview` is called
        with a PreviewLatents after every `preview_every` steps (default 5).

        Raises:
            InvalidRequest: a field is unknown or has an invalid value. The message of the error starts with the name of
                the field.

        """
        previews = {} if on_preview is None else {"preview_every": DEFAULT_PREVIEW_EVERY}
        request = parse_request({"prompt": prompt} | previews | fields)
        return LatentStream(self._events, request, self, on_progress, on_preview)

    async def decode(
        self, latents: bytes | Generation, *, model: str | None = None, encoding: str | None = None
    ) -> DecodedPixels:
        """Decode latents to pixels on the server.

        The pixels equal the result of decode_to_frames with the same VAE on the same kind of device.

        Args:
            latents: The body of a generation response, for example a file that `codec-diffusers generate -o a.bin` has
                written, or the result of `generate` or `encode`.
            model: Name or alias of a model. By default, the first model with the latent space of the stream is used.
            encoding: Content coding of `latents`, one of identity, gzip, br and zstd. By default, the coding is
                detected from the first bytes of `latents`. The coding br cannot be detected.

        Raises:
            InvalidRequest: the stream is invalid. The message of the exception states the byte position of the error.
            UnsupportedModality: the server has no VAE for the stream.
            CodecError: any error that generate() raises.

        """
        request = decoding_request(latents, RGB, model=model, encoding=encoding)
        pixels, map_hash = await self._decode(request)
        return DecodedPixels(pixels.frames(), map_hash)

    async def decode_to_file(
        self,
        latents: bytes | Generation,
        file_format: FileFormat,
        *,
        quality: int = MAX_QUALITY,
        model: str | None = None,
        encoding: str | None = None,
    ) -> bytes:
        """Decode latents on the server, and return the bytes of an image file (png, jpeg, webp) or video file (mp4).

        The server stores the hash of the map and the properties of the stream in the file. `quality` is a number from 0
        to 100 that applies only to JPEG and WebP. The parameters `latents`, `model` and `encoding` have the same
        meaning as in decode(). The errors of decode() can also be raised.

        Raises:
            NotAcceptable: `file_format` is mp4 although the latents are an image, or is an image format although the
                latents are a video.

        """
        request = decoding_request(latents, file_format, quality=quality, model=model, encoding=encoding)
        pixels, _ = await self._decode(request)
        return bytes(pixels.data)

    async def encode(
        self,
        file: "bytes | Image",
        *,
        model: str | None = None,
        latent_space: str | None = None,
        pipeline: str = "raw",
        size: tuple[int, int] | None = None,
        keyframe_interval: int | None = None,
        seed: int | None = None,
    ) -> Generation:
        """Encode an image or a video to latents on the server. The same file always gives the same latents.

        Args:
            file: A PIL image, or the bytes of a PNG, JPEG or WebP image or of an MP4 video.
            model: Name or alias of a model. By default, the server's default model is used.
            latent_space: Id of the latent space. By default, the latent space of the model is used.
            pipeline: Name of the encoding pipeline for the latents, for example "int8".
            size: Width and height in pixels, to which the frames are scaled and then cropped. By default, the size of
                the file is rounded down to a size that the model supports.
            keyframe_interval: Number of latent frames from one keyframe to the next, for a video with a delta pipeline.
            seed: Seed with which latents are sampled from the VAE's distribution. By default, the latents are the mode
                of the VAE's distribution.

        Raises:
            InvalidRequest: the file is not an image or a video, or an argument is invalid.
            UnsupportedModality: the server has no VAE for the model.
            CodecError: any error that generate() raises.

        """
        request = EncodingRequest(file_bytes(file), model, latent_space, pipeline, size, keyframe_interval, seed)
        async with self.encoded_stream(request) as stream:
            return await read_generation(stream)

    def encoded_stream(self, request: EncodingRequest) -> ReceivedStream:
        """Return a stream of the latents that the server encodes from an image or a video. See encode().

        Raises InvalidRequest if an argument is out of range.
        """
        return ReceivedStream(partial(self._encoded_events, checked_encoding_request(request)), self)

    async def generate(
        self,
        prompt: str,
        *,
        on_progress: OnProgress | None = None,
        on_preview: OnPreview | None = None,
        **fields: Any,
    ) -> Generation:
        """Generate an image or a video, and return its complete latents.

        The parameters are the same as the parameters of stream(). Raises the errors of the method stream() and of the
        class LatentStream.
        """
        async with self.stream(prompt, on_progress=on_progress, on_preview=on_preview, **fields) as stream:
            return await read_generation(stream)

    def blocking(self) -> BlockingClient:
        """Return a blocking client with the same methods, for use in a `with` statement."""
        return BlockingClient(self)

    @abstractmethod
    async def latent_map(self, digest: str | None = None) -> LatentMapBundle:
        """Return the latent-space map with the hash `digest` ("sha256:<hex>") and the files that the map refers to.

        By default, return the map of the server's default model. The hashes of the map and of the map's files are
        verified, and all files are cached.

        Raises:
            InvalidMap: the server has no map with the hash `digest`, or a file is invalid. InvalidMap is also raised if
                the hash of a file differs from the hash that the map states.
            ServerUnreachable: the server did not respond.

        """

    @abstractmethod
    async def latent_rgb(self, latent_space: str | None = None) -> LatentRgb:
        """Return the matrix with which latent_to_rgb() converts latents of `latent_space` to colours without a VAE.

        By default, return the matrix of the server's default model.

        Raises:
            NotFound: the server does not serve `latent_space`, or has no matrix for `latent_space`.
            InvalidMap: the response is not a matrix.
            ServerUnreachable: the server did not respond.

        """

    @abstractmethod
    async def models(self) -> list[ServedModel]:
        """Return the models that the server serves. The first model is the default for requests that name no model.

        Raises:
            UnexpectedAnswer: the response does not list models.
            ServerUnreachable: the server did not respond.

        """

    @abstractmethod
    async def close(self) -> None:
        """Close the connections and cancel the requests that are still running."""

    @abstractmethod
    def _events(
        self, request: GenerationRequest, response: ResponseState, timeout_s: float
    ) -> AsyncGenerator[StreamEvent, None]:
        """Run a generation and yield its events. See codec_client.stream.Transport."""

    @abstractmethod
    def _encoded_events(
        self, request: EncodingRequest, response: ResponseState, timeout_s: float
    ) -> AsyncGenerator[StreamEvent, None]:
        """Encode a file and yield the events of its latent stream. See codec_client.stream.Transport."""

    @abstractmethod
    async def _decoded_pixels(
        self, request: DecodingRequest, response: ResponseState, timeout_s: float
    ) -> ReceivedPixels:
        """Decode a latent stream to pixels within `timeout_s` seconds.

        Cancelling this coroutine cancels the request.
        """

    async def _decode(self, request: DecodingRequest) -> tuple[ReceivedPixels, str | None]:
        """Return the decoded pixels, and the hash of the latent-space map whose VAE decoded the pixels."""
        loop, response = asyncio.get_running_loop(), ResponseState()
        deadline = loop.time() + self.timeout_s

        async def attempt() -> ReceivedPixels:
            return await run_before(deadline, self, self._decoded_pixels(request, response, deadline - loop.time()))

        pixels = await run_with_retries(attempt, lambda: response.started, self, deadline)
        return pixels, response.map_hash

    async def __aenter__(self) -> Self:
        """Return the client itself. A connection is opened when a request first needs the connection."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client."""
        await self.close()
