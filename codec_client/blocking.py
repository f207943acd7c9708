"""Blocking client, which runs an async client on an event loop in a background thread."""

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from codec_client.event_loop_thread import EndOfStream, EventLoopThread
from codec_client.latent_requests import MAX_QUALITY, FileFormat
from codec_client.results import DecodedPixels, Generation, ServedModel
from codec_client.stream import LatentStream, OnPreview, OnProgress, Progress
from codec_wire.decoder import DecodedLatent
from codec_wire.latents import LatentStreamHeader
from codec_wire.maps import LatentMapBundle
from codec_wire.maps.latent_rgb import LatentRgb

if TYPE_CHECKING:
    from PIL.Image import Image


class BlockingStream:
    """The latents of one generation, read in a `for` loop inside a `with` block.

    Each item of the loop is one latent frame [C, h, w].

    This class is the blocking form of LatentStream. The callbacks `on_progress` and `on_preview` are called from
    another thread.
    """

    def __init__(self, stream: LatentStream, loop: EventLoopThread) -> None:
        self._stream = stream
        self._loop = loop

    @property
    def header(self) -> LatentStreamHeader:
        """Header of the stream. Raises RuntimeError if the stream has not been entered."""
        return self._stream.header

    @property
    def map_hash(self) -> str | None:
        """Hash ("sha256:<hex>") of the latent-space map of the latents, or None if the server sent no hash."""
        return self._stream.map_hash

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Parameters of the request, and a description of the server process. See Generation.parameters."""
        return self._stream.parameters

    @property
    def progress(self) -> Progress:
        """Progress of the generation at the last received event."""
        return self._stream.progress

    def __enter__(self) -> Self:
        """Send the request and wait for the header."""
        self._loop.run(self._stream.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel the generation if the generation is still running."""
        self._loop.run(self._stream.aclose())

    def __iter__(self) -> Self:
        """Return the stream itself. A stream can be iterated only once."""
        return self

    def __next__(self) -> DecodedLatent:
        """Return the next latent frame, an array [C, h, w]."""
        try:
            return self._loop.run(self._stream.__anext__())
        except EndOfStream:
            raise StopIteration from None


class AsyncClient(Protocol):
    """The asynchronous methods that BlockingClient wraps. See LatentClient."""

    def stream(
        self,
        prompt: str,
        *,
        on_progress: OnProgress | None = None,
        on_preview: OnPreview | None = None,
        **fields: Any,
    ) -> LatentStream:
        """See LatentClient.stream."""

    async def generate(
        self,
        prompt: str,
        *,
        on_progress: OnProgress | None = None,
        on_preview: OnPreview | None = None,
        **fields: Any,
    ) -> Generation:
        """See LatentClient.generate."""

    async def decode(
        self, latents: bytes | Generation, *, model: str | None = None, encoding: str | None = None
    ) -> DecodedPixels:
        """See LatentClient.decode."""

    async def decode_to_file(
        self,
        latents: bytes | Generation,
        file_format: FileFormat,
        *,
        quality: int = MAX_QUALITY,
        model: str | None = None,
        encoding: str | None = None,
    ) -> bytes:
        """See LatentClient.decode_to_file."""

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
        """See LatentClient.encode."""

    async def latent_map(self, digest: str | None = None) -> LatentMapBundle:
        """See LatentClient.latent_map."""

    async def latent_rgb(self, latent_space: str | None = None) -> LatentRgb:
        """See LatentClient.latent_rgb."""

    async def models(self) -> list[ServedModel]:
        """See LatentClient.models."""

    async def close(self) -> None:
        """See LatentClient.close."""


class BlockingClient:
    """The blocking form of LatentClient, used in a `with` statement.

    LatentClient.blocking() returns a BlockingClient.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._loop: EventLoopThread | None = None

    def stream(
        self,
        prompt: str,
        *,
        on_progress: OnProgress | None = None,
        on_preview: OnPreview | None = None,
        **fields: Any,
    ) -> BlockingStream:
        """Return a stream for one generation. See LatentClient.stream.

        Entering the stream with `with` sends the request.
        """
        return BlockingStream(
            self._client.stream(prompt, on_progress=on_progress, on_preview=on_preview, **fields), self._loop_thread()
        )

    def generate(
        self,
        prompt: str,
        *,
        on_progress: OnProgress | None = None,
        on_preview: OnPreview | None = None,
        **fields: Any,
    ) -> Generation:
        """Generate an image or a video, and return its complete latents. See LatentClient.generate."""
        return self._loop_thread().run(
            self._client.generate(prompt, on_progress=on_progress, on_preview=on_preview, **fields)
        )

    def decode(
        self, latents: bytes | Generation, *, model: str | None = None, encoding: str | None = None
    ) -> DecodedPixels:
        """Decode latents to pixels on the server. See LatentClient.decode."""
        return self._loop_thread().run(self._client.decode(latents, model=model, encoding=encoding))

    def decode_to_file(
        self,
        latents: bytes | Generation,
        file_format: FileFormat,
        *,
        quality: int = MAX_QUALITY,
        model: str | None = None,
        encoding: str | None = None,
    ) -> bytes:
        """Decode latents on the server, and return an image or video file. See LatentClient.decode_to_file."""
        return self._loop_thread().run(
            self._client.decode_to_file(latents, file_format, quality=quality, model=model, encoding=encoding)
        )

    def encode(
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
        """Encode an image or a video to latents on the server. See LatentClient.encode."""
        return self._loop_thread().run(
            self._client.encode(
                file,
                model=model,
                latent_space=latent_space,
                pipeline=pipeline,
                size=size,
                keyframe_interval=keyframe_interval,
                seed=seed,
            )
        )

    def latent_map(self, digest: str | None = None) -> LatentMapBundle:
        """Return a latent-space map of the server. See LatentClient.latent_map."""
        return self._loop_thread().run(self._client.latent_map(digest))

    def latent_rgb(self, latent_space: str | None = None) -> LatentRgb:
        """Return the matrix that converts latents to approximate RGB values. See LatentClient.latent_rgb."""
        return self._loop_thread().run(self._client.latent_rgb(latent_space))

    def models(self) -> list[ServedModel]:
        """Return the models that the server serves. See LatentClient.models."""
        return self._loop_thread().run(self._client.models())

    def close(self) -> None:
        """Close the connections and stop the event loop."""
        if self._loop is not None:
            self._loop.run(self._client.close())
            self._loop.stop()
            self._loop = None

    def __enter__(self) -> Self:
        """Return the client itself. A connection is opened when a request first needs the connection."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client."""
        self.close()

    def _loop_thread(self) -> EventLoopThread:
        if self._loop is None:
            self._loop = EventLoopThread()
        return self._loop
