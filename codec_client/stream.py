"""One generation as its client sees it: latents as they arrive, progress, cancellation by leaving."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self

from codec_client.errors import ServerUnreachable
from codec_wire.decoder import DecodedLatent, LatentDecoder
from codec_wire.errors import CodecError, DeadlineExceeded, RetryableError, TruncatedStream
from codec_wire.events import Frame, Started, Step, StreamEvent
from codec_wire.latents import LatentFrame, LatentStreamHeader
from codec_wire.request import GenerationRequest

RECONNECT_S = 1.0
"""How long to wait before a server that did not answer is asked again."""


@dataclass(slots=True)
class Arrival:
    """What a transport tells of one answer beside its events: whether one came, the map it names, bytes received."""

    answered: bool = False
    map_hash: str | None = None
    received_bytes: int = 0


Transport = Callable[[GenerationRequest, Arrival, float], AsyncGenerator[StreamEvent, None]]
"""Runs a request within that many seconds and yields its events; closing the iterator cancels the job."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a generation is. `step` of `total_steps` is known in process and over gRPC; HTTP carries no steps."""

    header: LatentStreamHeader | None = None
    step: int | None = None
    total_steps: int | None = None
    frames: int = 0
    received_bytes: int = 0

    @property
    def total_frames(self) -> int | None:
        """Number of frames that will come, where the header said so."""
        return None if self.header is None else self.header.total_frames


OnProgress = Callable[[Progress], None]


class StreamOptions(Protocol):
    """What a stream takes from its client."""

    timeout_s: float
    retries: int


class LatentStream:
    """An async context manager and iterator over the latents of one generation, [C, h, w] each.

    Entering it sends the request and waits for the header; leaving it before the end cancels the job. Raises what the
    server says as the core's errors, StreamError for a stream that breaks the contract, DeadlineExceeded, and
    ServerUnreachable. A request is sent again only while nothing of an answer was received.
    """

    def __init__(
        self, transport: Transport, request: GenerationRequest, options: StreamOptions, on_progress: OnProgress | None
    ) -> None:
        self._transport = transport
        self.request = request
        """What was asked for."""
        self._options = options
        self._on_progress = on_progress
        self._arrival = Arrival()
        self._events: AsyncGenerator[StreamEvent, None] | None = None
        self._decoder: LatentDecoder | None = None
        self._deadline = 0.0
        self.progress = Progress()
        self.frame: LatentFrame | None = None
        """The frame, as it travelled, that the last latents came from."""

    @property
    def header(self) -> LatentStreamHeader:
        """The stream's header."""
        if self.progress.header is None:
            raise RuntimeError("the stream is not entered: use `async with`")
        return self.progress.header

    @property
    def map_hash(self) -> str | None:
        """Hash of the latent-space map that the answer names, sha256:<hex>."""
        return self._arrival.map_hash

    async def __aenter__(self) -> Self:
        """Send the request and wait for the header."""
        self._deadline = asyncio.get_running_loop().time() + self._options.timeout_s
        for attempt in range(self._options.retries + 1):
            try:
                await self._open()
            except (RetryableError, ServerUnreachable) as error:
                await self.aclose()
                wait = error.retry_after_s if isinstance(error, RetryableError) else RECONNECT_S
                out_of_time = asyncio.get_running_loop().time() + wait > self._deadline
                if self._arrival.answered or attempt == self._options.retries or out_of_time:
                    raise
                await asyncio.sleep(wait)
            except BaseException:
                await self.aclose()
                raise
            else:
                return self
        raise AssertionError("the last attempt raises or returns")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel the job where it still runs."""
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel the job where it still runs."""
        if self._events is not None:
            await self._events.aclose()

    def __aiter__(self) -> Self:
        """Return itself: a stream can be read once."""
        return self

    async def __anext__(self) -> DecodedLatent:
        """Return the next frame's latents."""
        decoder = self._decoder
        if decoder is None:
            raise RuntimeError("the stream is not entered: use `async with`")
        while (event := await self._next()) is not None:
            if isinstance(event, Frame):
                latents = decoder.decode(event.frame)
                self.frame = event.frame
                self._tell(frames=self.progress.frames + 1)
                return latents
            if isinstance(event, Step):
                self._tell(step=event.index, total_steps=event.total)
        decoder.close()
        raise StopAsyncIteration

    async def _open(self) -> None:
        left = self._deadline - asyncio.get_running_loop().time()
        self._events = self._transport(self.request, self._arrival, left)
        first = await self._next()
        if not isinstance(first, Started):
            raise TruncatedStream("the answer ends without a header")
        self._decoder = LatentDecoder(first.header)
        self._tell(header=first.header)

    async def _next(self) -> StreamEvent | None:
        assert self._events is not None  # noqa: S101 - whoever calls has opened
        timeout = asyncio.timeout_at(self._deadline)
        try:
            async with timeout:
                return await anext(self._events, None)
        except TimeoutError:
            if timeout.expired():
                raise self._out_of_time() from None
            raise

    def _out_of_time(self) -> CodecError:
        return DeadlineExceeded(f"there was no whole answer within {self._options.timeout_s:g} s")

    def _tell(self, **changes: object) -> None:
        self.progress = replace(self.progress, received_bytes=self._arrival.received_bytes, **changes)  # type: ignore[arg-type]
        if self._on_progress is not None:
            self._on_progress(self.progress)
