"""Async stream of received latents, with progress and cancellation."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Any, Self

import numpy as np

from codec_client.attempts import RequestOptions, run_before, run_with_retries
from codec_client.errors import UnexpectedAnswer
from codec_client.results import Generation
from codec_wire.decoder import DecodedLatent, LatentDecoder
from codec_wire.digest import is_digest
from codec_wire.errors import MapMismatch, TruncatedStream, truncated_repr
from codec_wire.events import Frame, Preview, Started, Step, StreamEvent, preview_header
from codec_wire.http import LATENT_MAP_HEADER
from codec_wire.latents import LatentFrame, LatentStreamHeader
from codec_wire.request import GenerationRequest


@dataclass(slots=True)
class ResponseState:
    """State of one response. A transport updates the state while the transport yields the events of the response.

    `started` is true if a part of the result has been received. If `started` is true, the request is not sent again
    after an error.
    """

    started: bool = False
    map_hash: str | None = None
    received_bytes: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def record_map_hash(self, map_hash: str | None, pinned_map: str | None) -> None:
        """Set `map_hash` to the hash that the server states for its latent-space map.

        Raises UnexpectedAnswer if `map_hash` is not a hash, and MapMismatch if `pinned_map` is set and differs from
        `map_hash`.
        """
        if map_hash is not None and not is_digest(map_hash):
            raise UnexpectedAnswer(f"{LATENT_MAP_HEADER} must be sha256:<64 hex>, got {truncated_repr(map_hash)}")
        self.map_hash = map_hash
        if pinned_map not in (None, map_hash):
            raise MapMismatch(
                f"the response uses the latent-space map {map_hash}, but the client accepts only {pinned_map}"
            )


Transport = Callable[[ResponseState, float], AsyncGenerator[StreamEvent, None]]
"""Function that sends a request and yields the events of the response.

The arguments are the state of the response and the timeout in seconds. Closing the generator that the function returns
cancels the request.
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a generation.

    Attributes:
        header: The stream header, or None before the header is received.
        step: Number of completed sampling steps, or None if unknown. Over HTTP, the number of completed steps is known
            only if previews are requested.
        total_steps: Total number of sampling steps, or None if unknown.
        frames: Number of latent frames received.
        received_bytes: Number of bytes received, before decompression.

    """

    header: LatentStreamHeader | None = None
    step: int | None = None
    total_steps: int | None = None
    frames: int = 0
    received_bytes: int = 0

    @property
    def total_frames(self) -> int | None:
        """Total number of latent frames, or None if the header does not state this number."""
        return None if self.header is None else self.header.total_frames


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class PreviewLatents:
    """One latent frame of a preview. A preview is the model's estimate of the finished latents after a step.

    Attributes:
        header: The header of the stream.
        step: Number of completed sampling steps.
        total_steps: Total number of sampling steps.
        seq: Sequence number of the latent frame.
        latents: Array [C, h, w] of float32. The latents are not yet divided by the map's vae_scale_factor.

    """

    header: LatentStreamHeader
    step: int
    total_steps: int
    seq: int
    latents: DecodedLatent


OnPreview = Callable[[PreviewLatents], None]
DEFAULT_PREVIEW_EVERY = 5
"""Number of steps from one preview to the next if the caller passes `on_preview` without `preview_every`."""


class ReceivedStream:
    """The latents of one response, read with `async with` and `async for`. Each item is one latent frame [C, h, w].

    Entering the stream sends the request and waits for the header. Leaving the stream before its end cancels the
    request on the server. A request is sent again after a failure only if no part of the result has been received.

    Raises:
        CodecError: the server reported an error. The class of the exception is the class in codec_wire.errors that has
            the reported error code.
        StreamError: the received stream is invalid.
        DeadlineExceeded: the request did not finish within the client's timeout_s.
        ServerUnreachable: the server did not respond.

    """

    def __init__(self, transport: Transport, options: RequestOptions, on_progress: OnProgress | None = None) -> None:
        self._transport = transport
        self._options = options
        self._on_progress = on_progress
        self._on_preview: OnPreview | None = None
        self._response = ResponseState()
        self._events: AsyncGenerator[StreamEvent, None] | None = None
        self._decoder: LatentDecoder | None = None
        self._deadline = 0.0
        self.progress = Progress()
        """Progress of the generation at the last event that was received."""
        self.frame: LatentFrame | None = None
        """The encoded frame from which the last latents were decoded."""

    @property
    def header(self) -> LatentStreamHeader:
        """Header of the stream. Raises RuntimeError if the stream has not been entered."""
        if self.progress.header is None:
            raise RuntimeError("the stream has not been entered; enter it with `async with`")
        return self.progress.header

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Parameters of the request, and a description of the server process. See Generation.parameters."""
        return self._response.parameters

    @property
    def map_hash(self) -> str | None:
        """Hash ("sha256:<hex>") of the map that describes the latent space, or None if the server sent no hash."""
        return self._response.map_hash

    async def __aenter__(self) -> Self:
        """Send the request and wait for the header."""
        self._deadline = asyncio.get_running_loop().time() + self._options.timeout_s
        await run_with_retries(self._open, lambda: self._response.started, self._options, self._deadline)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel the request if the request is still running."""
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel the request if the request is still running."""
        if self._events is not None:
            await self._events.aclose()

    def __aiter__(self) -> Self:
        """Return the stream itself. A stream can be iterated only once."""
        return self

    async def __anext__(self) -> DecodedLatent:
        """Return the next latent frame, an array [C, h, w]."""
        decoder = self._decoder
        if decoder is None:
            raise RuntimeError("the stream has not been entered; enter it with `async with`")
        while (event := await self._next_event()) is not None:
            if isinstance(event, Frame):
                latents = decoder.decode(event.frame)
                self.frame = event.frame
                self._update_progress(frames=self.progress.frames + 1)
                return latents
            if isinstance(event, Preview):
                self._report_preview(event)
            elif isinstance(event, Step):
                self._update_progress(step=event.index, total_steps=event.total)
        decoder.close()
        raise StopAsyncIteration

    async def _open(self) -> None:
        remaining_s = self._deadline - asyncio.get_running_loop().time()
        self._events = self._transport(self._response, remaining_s)
        try:
            first = await self._next_event()
            if not isinstance(first, Started):
                raise TruncatedStream("the response ended without a header")
        except BaseException:
            await self.aclose()
            raise
        self._decoder = LatentDecoder(first.header)
        self._update_progress(header=first.header)

    async def _next_event(self) -> StreamEvent | None:
        assert self._events is not None  # noqa: S101 - set by _open
        return await run_before(self._deadline, self._options, anext(self._events, None))

    def _report_preview(self, event: Preview) -> None:
        if self._on_preview is None:
            return
        # The frames of previews do not depend on each other, and the server may leave some out.
        decoder = LatentDecoder(replace(preview_header(self.header), total_frames=None))
        latents = decoder.decode(replace(event.frame, seq=0))
        self._on_preview(PreviewLatents(self.header, event.index, event.total, event.frame.seq, latents))

    def _update_progress(self, **changes: object) -> None:
        received_bytes = self._response.received_bytes
        self.progress = replace(self.progress, received_bytes=received_bytes, **changes)  # type: ignore[arg-type]
        if self._on_progress is not None:
            self._on_progress(self.progress)


class LatentStream(ReceivedStream):
    """The latents of one generation, read with `async with` and `async for`. See ReceivedStream."""

    def __init__(
        self,
        transport: Callable[[GenerationRequest, ResponseState, float], AsyncGenerator[StreamEvent, None]],
        request: GenerationRequest,
        options: RequestOptions,
        on_progress: OnProgress | None,
        on_preview: OnPreview | None = None,
    ) -> None:
        super().__init__(partial(transport, request), options, on_progress)
        self._on_preview = on_preview
        self.request = request
        """The request that is sent when the stream is entered."""


async def read_generation(stream: ReceivedStream) -> Generation:
    """Return the header and all latents of a stream that has been entered."""
    latents = [latents async for latents in stream]
    return Generation(stream.header, np.stack(latents), stream.map_hash, stream.parameters)
