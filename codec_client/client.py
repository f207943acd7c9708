"""Interface that the HTTP, gRPC and in-process clients share."""

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from codec_client.blocking import BlockingClient
from codec_client.cache import FileCache
from codec_client.errors import UnexpectedAnswer
from codec_client.results import Generation, ServedModel
from codec_client.stream import LatentStream, OnProgress, ResponseState
from codec_wire.digest import is_digest
from codec_wire.errors import MapMismatch, truncated_repr
from codec_wire.events import StreamEvent
from codec_wire.http import LATENT_MAP_HEADER
from codec_wire.maps import LatentMapBundle, parse_map_pin
from codec_wire.request import GenerationRequest, parse_request

TIMEOUT_S = 600.0
RETRIES = 2


class LatentClient(ABC):
    """Async client of one server, used with `async with`. Call `blocking()` for the same methods without async.

    Args:
        api_key: Sent to the server as a bearer token. Default: none.
        timeout_s: Timeout of a whole generation in seconds, including retries.
        retries: Number of times a request is sent again if the server did not respond, or responded that it is
            overloaded or not ready. A request is never sent again once part of the result has been received.
        pinned_map: Hash ("sha256:<hex>") of the only latent-space map to accept. Responses for any other map raise
            MapMismatch. Default: accept every map.
        cache_dir: Directory that caches maps and dictionaries. Default: default_cache_dir().

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
        self.pinned_map = parse_map_pin(pinned_map)
        self.cache = FileCache(None if cache_dir is None else Path(cache_dir))

    def stream(self, prompt: str, *, on_progress: OnProgress | None = None, **fields: Any) -> LatentStream:
        """Return a stream for one generation. The request is sent when the stream is entered with `async with`.

        `fields` are the fields of codec_wire.request.GenerationRequest, for example size=(512, 512), steps=20,
        seed=7 or pipeline="int8". `on_progress` is called with a Progress after every received event.

        Raises:
            InvalidRequest: a field is unknown or has an invalid value; the message starts with its name.

        """
        return LatentStream(self._events, parse_request({"prompt": prompt} | fields), self, on_progress)

    async def generate(self, prompt: str, *, on_progress: OnProgress | None = None, **fields: Any) -> Generation:
        """Generate and return the complete result. Parameters and errors are those of stream() and LatentStream."""
        async with self.stream(prompt, on_progress=on_progress, **fields) as stream:
            latents = [latents async for latents in stream]
            return Generation(stream.header, np.stack(latents), stream.map_hash)

    def blocking(self) -> BlockingClient:
        """Return a blocking client with the same methods, used with `with`."""
        return BlockingClient(self)

    @abstractmethod
    async def latent_map(self, digest: str | None = None) -> LatentMapBundle:
        """Return the latent-space map with the hash `digest` ("sha256:<hex>") together with the files it refers to.

        If `digest` is None, return the map of the server's default model. All hashes are verified, and the files
        are cached.

        Raises:
            InvalidMap: the server has no such map, or a file is invalid or has a different hash.
            ServerUnreachable: the server did not respond.

        """

    @abstractmethod
    async def models(self) -> list[ServedModel]:
        """Return the models that the server serves. The first one is the default for requests that name no model.

        Raises:
            UnexpectedAnswer: the response does not list models.
            ServerUnreachable: the server did not respond.

        """

    @abstractmethod
    async def close(self) -> None:
        """Close the connections and cancel the generations that still run over them."""

    @abstractmethod
    def _events(
        self, request: GenerationRequest, response: ResponseState, timeout_s: float
    ) -> AsyncGenerator[StreamEvent, None]:
        """Run a request. See codec_client.stream.Transport."""

    async def __aenter__(self) -> Self:
        """Return the client itself; connections are opened on first use."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client."""
        await self.close()

    def _record_map_hash(self, response: ResponseState, map_hash: str | None) -> None:
        """Record the map hash of a response.

        Raises UnexpectedAnswer if it is not a hash, MapMismatch if it differs from the pinned map.
        """
        if map_hash is not None and not is_digest(map_hash):
            raise UnexpectedAnswer(f"{LATENT_MAP_HEADER} must be sha256:<64 hex>, got {truncated_repr(map_hash)}")
        response.map_hash = map_hash
        if self.pinned_map not in (None, map_hash):
            raise MapMismatch(
                f"the response uses the latent-space map {map_hash}, but the client is pinned to {self.pinned_map}"
            )


def explicit_fields(request: GenerationRequest) -> dict[str, Any]:
    """Return the fields of `request` that were set explicitly, by wire name.

    The server applies its defaults to the others.
    """
    fields = request.model_dump(exclude_unset=True, by_alias=True)
    return {name: value for name, value in fields.items() if value is not None}
