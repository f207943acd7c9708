"""The surface that every client has, whatever carries its requests."""

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from codec_client.blocking import BlockingClient
from codec_client.cache import FileCache
from codec_client.results import Generation, ServedModel
from codec_client.stream import Arrival, LatentStream, OnProgress
from codec_wire.errors import MapMismatch
from codec_wire.events import StreamEvent
from codec_wire.maps import LatentMapBundle, pinned_hash
from codec_wire.request import GenerationRequest, parse_request

TIMEOUT_S = 600.0
RETRIES = 2


class LatentClient(ABC):
    """A client of one server, used with `async with`; `blocking()` gives the same without async.

    `api_key` travels as a bearer token; `timeout_s` is for one whole generation, retries included; `retries` is how
    often a request of which nothing was answered is sent again; `pinned_map` (sha256:<hex>) is the only map that
    answers may be of; `cache_dir` keeps maps and dictionaries, default_cache_dir() for None.
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
        self.api_key = api_key
        self.timeout_s = timeout_s
        self.retries = retries
        self.pinned_map = pinned_hash(pinned_map)
        self.cache = FileCache(None if cache_dir is None else Path(cache_dir))

    def stream(self, prompt: str, *, on_progress: OnProgress | None = None, **fields: Any) -> LatentStream:
        """Return the stream of one generation, to be entered with `async with`; nothing is sent before.

        `fields` are those of codec_wire.request.GenerationRequest: size=(512, 512), steps, seed, pipeline, ...
        `on_progress` is called as things arrive. Raises InvalidRequest naming the field at fault.
        """
        return LatentStream(self._events, parse_request({"prompt": prompt} | fields), self, on_progress)

    async def generate(self, prompt: str, *, on_progress: OnProgress | None = None, **fields: Any) -> Generation:
        """Return one whole generation. See stream."""
        async with self.stream(prompt, on_progress=on_progress, **fields) as stream:
            latents = [latents async for latents in stream]
            return Generation(stream.header, np.stack(latents), stream.map_hash)

    def blocking(self) -> BlockingClient:
        """Return this client's surface without async, for `with`."""
        return BlockingClient(self)

    @abstractmethod
    async def latent_map(self, digest: str | None = None) -> LatentMapBundle:
        """Return the map with the hash `digest` and its files, the server's own for None, verified and kept.

        Raises InvalidMap, and what reaching the server raises.
        """

    @abstractmethod
    async def models(self) -> list[ServedModel]:
        """Return the models that the server runs, first the one that a request which names none gets.

        Raises UnexpectedAnswer where it does not say, and what reaching the server raises.
        """

    @abstractmethod
    async def close(self) -> None:
        """Let go of the connections. What still runs over them is cancelled."""

    @abstractmethod
    def _events(
        self, request: GenerationRequest, arrival: Arrival, seconds: float
    ) -> AsyncGenerator[StreamEvent, None]:
        """See codec_client.stream.Transport."""

    async def __aenter__(self) -> Self:
        """Return itself; connections are made when they are needed."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self.close()

    def _is_of_map(self, arrival: Arrival, map_hash: str | None) -> None:
        """Take note of the map that an answer names. Raises MapMismatch where another one is pinned."""
        arrival.map_hash = map_hash
        if self.pinned_map not in (None, map_hash):
            raise MapMismatch(f"pinned is the latent-space map {self.pinned_map}, the answer is of {map_hash}")


def values_of(request: GenerationRequest) -> dict[str, Any]:
    """Return the fields that were asked for, by name; the server's defaults are taken for the others."""
    return {name: value for name, value in request.model_dump(exclude_unset=True).items() if value is not None}
