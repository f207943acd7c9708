"""The async clients without async: a private event loop in a thread, and a thin face in front of it."""

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from codec_client.results import Generation, ServedModel
from codec_client.stream import LatentStream, OnProgress, Progress
from codec_wire.decoder import DecodedLatent
from codec_wire.latents import LatentStreamHeader
from codec_wire.maps import LatentMapBundle

ResultT = TypeVar("ResultT")
ENDS_S = 5.0
"""How long cancelled work gets to end, in seconds."""


class LoopThread:
    """An event loop in a thread of its own, for callers that have none."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="codec-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Return what `work` returns; interrupting the wait (Ctrl-C) cancels it and waits until it has ended."""
        ended = threading.Event()
        future = asyncio.run_coroutine_threadsafe(_settled(work, ended), self._loop)
        try:
            return future.result()
        except BaseException:
            if future.cancel():
                ended.wait(ENDS_S)
            raise

    def stop(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


async def _settled(work: Coroutine[Any, Any, ResultT], ended: threading.Event) -> ResultT:
    try:
        return await work
    except StopAsyncIteration as error:  # which no future can hold
        raise EndOfStream from error
    finally:
        ended.set()


class EndOfStream(Exception):
    """A stream has no more latents."""


class BlockingStream:
    """One generation, for `with` and `for`. See LatentStream, whose callbacks here come from another thread."""

    def __init__(self, stream: LatentStream, loop: LoopThread) -> None:
        self._stream = stream
        self._loop = loop

    @property
    def header(self) -> LatentStreamHeader:
        """The stream's header."""
        return self._stream.header

    @property
    def map_hash(self) -> str | None:
        """Hash of the latent-space map that the answer names, sha256:<hex>."""
        return self._stream.map_hash

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._stream.progress

    def __enter__(self) -> Self:
        """Send the request and wait for the header."""
        self._loop.run(self._stream.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel the job where it still runs."""
        self._loop.run(self._stream.aclose())

    def __iter__(self) -> Self:
        """Return itself: a stream can be read once."""
        return self

    def __next__(self) -> DecodedLatent:
        """Return the next frame's latents."""
        try:
            return self._loop.run(self._stream.__anext__())
        except EndOfStream:
            raise StopIteration from None


class AsyncClient(Protocol):
    """The asynchronous methods that BlockingClient wraps. See LatentClient."""

    def stream(self, prompt: str, *, on_progress: OnProgress | None = None, **fields: Any) -> LatentStream:
        """See LatentClient."""

    async def generate(self, prompt: str, *, on_progress: OnProgress | None = None, **fields: Any) -> Generation:
        """See LatentClient."""

    async def latent_map(self, digest: str | None = None) -> LatentMapBundle:
        """See LatentClient."""

    async def models(self) -> list[ServedModel]:
        """See LatentClient."""

    async def close(self) -> None:
        """See LatentClient."""


class BlockingClient:
    """A client's surface without async, for `with`. See LatentClient."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._loop: LoopThread | None = None

    def stream(self, prompt: str, *, on_progress: OnProgress | None = None, **fields: Any) -> BlockingStream:
        """Return the stream of one generation, to be entered with `with`. See LatentClient.stream."""
        return BlockingStream(self._client.stream(prompt, on_progress=on_progress, **fields), self._running())

    def generate(self, prompt: str, *, on_progress: OnProgress | None = None, **fields: Any) -> Generation:
        """Return one whole generation. See LatentClient.generate."""
        return self._running().run(self._client.generate(prompt, on_progress=on_progress, **fields))

    def latent_map(self, digest: str | None = None) -> LatentMapBundle:
        """Return the server's latent-space map. See LatentClient.latent_map."""
        return self._running().run(self._client.latent_map(digest))

    def models(self) -> list[ServedModel]:
        """Return the models that the server runs. See LatentClient.models."""
        return self._running().run(self._client.models())

    def close(self) -> None:
        """Let go of the connections and of the loop."""
        if self._loop is not None:
            self._loop.run(self._client.close())
            self._loop.stop()
            self._loop = None

    def __enter__(self) -> Self:
        """Return itself; connections are made when they are needed."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _running(self) -> LoopThread:
        if self._loop is None:
            self._loop = LoopThread()
        return self._loop
