"""Fetches a server's latent-space map and everything it names, and believes none of it before the hashes agree."""

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import aiohttp

from codec_client.cache import FileCache
from codec_client.errors import ServerUnreachable
from codec_client.http_errors import reason_of
from codec_wire.errors import InvalidMap, truncated_repr
from codec_wire.http import INDEX_PATH
from codec_wire.maps import LatentMapBundle
from codec_wire.maps.bundle import files_named_by
from codec_wire.maps.document import parse_map

MAX_FILE_BYTES = 16 * 1024 * 1024
"""A map is a few kilobytes and a dictionary some hundred: whatever is larger is none."""
TIMEOUT_S = 30.0


async def fetch_map(
    server: str, latent_space: str | None = None, *, digest: str | None = None, **options: Any
) -> LatentMapBundle:
    """Return one bundle that the server at `server` (http://HOST:PORT) publishes, verified.

    `latent_space` and `digest` (sha256:<hex>) say which, the first one listed where both are None; `options` are those
    of Publisher. Raises InvalidMap saying which file cannot be had or has another hash than it should, and
    ServerUnreachable where nothing answers.
    """
    async with Publisher(server, **options) as published:
        entries = await published.entries()
        for entry in entries:
            if latent_space in (None, entry.latent_space) and digest in (None, entry.hash):
                return await published.bundle(entry)
    wanted = " ".join(filter(None, (latent_space, digest))) or "any latent space"
    listed = ", ".join(f"{entry.latent_space} {entry.hash}" for entry in entries) or "none"
    raise InvalidMap(f"{server} publishes no map of {wanted}; it lists {listed}")


async def fetch_maps(server: str, **options: Any) -> list[LatentMapBundle]:
    """Return every bundle that the server publishes. See fetch_map."""
    async with Publisher(server, **options) as published:
        return [await published.bundle(entry) for entry in await published.entries()]


@dataclass(frozen=True, slots=True)
class Entry:
    """One map in a server's index."""

    latent_space: str
    url: str
    hash: str


class Publisher:
    """What a server publishes, used with `async with`.

    `api_key` is sent to this server and to no other that a map may name; what `cache` holds is not fetched, and what
    is fetched it keeps; `tls` is for a server with a certificate of one's own.
    """

    def __init__(
        self,
        server: str,
        *,
        api_key: str | None = None,
        cache: FileCache | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._server = server
        self._api_key = api_key
        self._cache = cache
        self._tls = tls

    async def entries(self) -> list[Entry]:
        """Return what the index lists. Raises InvalidMap."""
        index = await self._fetched(INDEX_PATH)
        try:
            return [
                Entry(str(entry["id"]), str(entry["url"]), str(entry["hash"])) for entry in json.loads(index)["latents"]
            ]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise InvalidMap(
                f"{self._server}{INDEX_PATH} is no index of latent-space maps: {truncated_repr(index)}"
            ) from None

    async def bundle(self, entry: Entry) -> LatentMapBundle:
        """Return a map and everything that it names, verified. Raises InvalidMap."""
        document = await self._file(entry.url, entry.hash)
        assets = {digest: await self._file(url, digest) for _, url, digest, _ in files_named_by(parse_map(document))}
        bundle = LatentMapBundle.from_parts(document, assets)
        if bundle.hash != entry.hash:
            raise InvalidMap(f"{self._server} lists its map as {entry.hash}, and serves {bundle.hash}")
        if self._cache is not None:
            keep(bundle, self._cache)
        return bundle

    async def _file(self, url: str, digest: str) -> bytes:
        kept = None if self._cache is None else self._cache.get(digest)
        return await self._fetched(url) if kept is None else kept

    async def _fetched(self, url: str) -> bytes:
        url = urljoin(self._server, url)
        own = urlsplit(url)[:2] == urlsplit(self._server)[:2]
        return await fetch_file(self._session, url, key_headers(self._api_key) if own else {})

    async def __aenter__(self) -> Self:
        """Return itself; connections are made when they are needed."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), connector=aiohttp.TCPConnector(ssl=self._tls or True)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._session.close()


def key_headers(api_key: str | None) -> dict[str, str]:
    """Return the headers that carry an API key, none for None."""
    return {} if api_key is None else {"Authorization": f"Bearer {api_key}"}


def keep(bundle: LatentMapBundle, cache: FileCache) -> None:
    """Keep a map and its files in `cache`."""
    for data in (bundle.document, *bundle.assets.values()):
        cache.put(data)


def kept(cache: FileCache, digest: str) -> LatentMapBundle | None:
    """Return the map with that hash from `cache`, None where it or one of its files is not kept."""
    document = cache.get(digest)
    if document is None:
        return None
    assets = {asset: cache.get(asset) for _, _, asset, _ in files_named_by(parse_map(document))}
    whole = {asset: data for asset, data in assets.items() if data is not None}
    return LatentMapBundle.from_parts(document, whole) if len(whole) == len(assets) else None


async def fetch_file(session: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> bytes:
    """Return a published file, unverified.

    Raises InvalidMap where it cannot be had or is too large to be one, ServerUnreachable where nothing answers.
    """
    try:
        async with session.get(url, headers=headers) as response:
            if response.status != HTTPStatus.OK:
                raise InvalidMap(f"{url} answers {response.status}")
            data = await response.content.read(MAX_FILE_BYTES + 1)
            while len(data) <= MAX_FILE_BYTES and (more := await response.content.read(MAX_FILE_BYTES)):
                data += more
    except (aiohttp.ClientConnectionError, TimeoutError) as error:
        raise ServerUnreachable(f"no server answers at {url}: {reason_of(error)}") from None
    except (aiohttp.ClientError, ValueError) as error:
        raise InvalidMap(f"{url} cannot be fetched: {error or type(error).__name__}") from None
    if len(data) > MAX_FILE_BYTES:
        raise InvalidMap(f"{url} has more than {MAX_FILE_BYTES} bytes")
    return data
