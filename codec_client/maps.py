"""Download of latent-space maps and the files that they refer to, with all hashes verified."""

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
from codec_wire.maps.bundle import map_files
from codec_wire.maps.document import parse_map

MAX_FILE_BYTES = 16 * 1024 * 1024
"""Maximum size of a published file. Maps have a few kilobytes, dictionaries a few hundred."""
TIMEOUT_S = 30.0


async def fetch_map(
    server: str, latent_space: str | None = None, *, digest: str | None = None, **options: Any
) -> LatentMapBundle:
    """Download one latent-space map and the files that it refers to, and verify their hashes.

    Args:
        server: The server's address, http://HOST:PORT or https://HOST:PORT.
        latent_space: Id of the latent space. Default: any.
        digest: Hash of the map ("sha256:<hex>"). Default: any. The first map in the server's index that matches
            `latent_space` and `digest` is returned.
        **options: Keyword arguments of PublishedMaps: api_key, cache and tls.

    Raises:
        InvalidMap: the server publishes no such map, or a file is missing, invalid or has a different hash.
        ServerUnreachable: the server did not respond.

    """
    async with PublishedMaps(server, **options) as published:
        entries = await published.entries()
        for entry in entries:
            if latent_space in (None, entry.latent_space) and digest in (None, entry.hash):
                return await published.bundle(entry)
    wanted = " ".join(filter(None, (latent_space, digest)))
    listed = ", ".join(f"{entry.latent_space} {entry.hash}" for entry in entries)
    if not listed:
        raise InvalidMap(f"{server} publishes no latent-space map")
    raise InvalidMap(f"{server} does not publish the latent-space map {wanted}; it publishes {listed}")


async def fetch_maps(server: str, **options: Any) -> list[LatentMapBundle]:
    """Download all latent-space maps that `server` publishes. Parameters and errors are those of fetch_map."""
    async with PublishedMaps(server, **options) as published:
        return [await published.bundle(entry) for entry in await published.entries()]


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One map in a server's index: the id of its latent space, its URL and its hash ("sha256:<hex>")."""

    latent_space: str
    url: str
    hash: str


class PublishedMaps:
    """The latent-space maps that a server publishes. Used with `async with`.

    Args:
        server: The server's address, http://HOST:PORT or https://HOST:PORT.
        api_key: Sent as a bearer token to this server only, not to other hosts that a map refers to.
        cache: Cached files are not downloaded again; downloaded files are added. Default: no cache.
        tls: TLS context for an https server. Default: the system's certificate authorities.

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

    async def entries(self) -> list[IndexEntry]:
        """Return the entries of the server's index. Raises InvalidMap if the index is missing or invalid."""
        index = await self._fetch(INDEX_PATH)
        try:
            return [
                IndexEntry(str(entry["id"]), str(entry["url"]), str(entry["hash"]))
                for entry in json.loads(index)["latents"]
            ]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise InvalidMap(
                f"{self._server}{INDEX_PATH} is not an index of latent-space maps: {truncated_repr(index)}"
            ) from None

    async def bundle(self, entry: IndexEntry) -> LatentMapBundle:
        """Return a map and the files that it refers to. Raises InvalidMap if one is missing or has a different hash."""
        document = await self._load(entry.url, entry.hash)
        assets = {digest: await self._load(url, digest) for _, url, digest, _ in map_files(parse_map(document))}
        bundle = LatentMapBundle.from_parts(document, assets)
        if bundle.hash != entry.hash:
            raise InvalidMap(
                f"{self._server}: the index lists the map {entry.hash}, but {entry.url} has the hash {bundle.hash}"
            )
        if self._cache is not None:
            store_bundle(bundle, self._cache)
        return bundle

    async def _load(self, url: str, digest: str) -> bytes:
        """Return a file from the cache, or download it."""
        cached = None if self._cache is None else self._cache.get(digest)
        return await self._fetch(url) if cached is None else cached

    async def _fetch(self, url: str) -> bytes:
        url = urljoin(self._server, url)
        same_origin = urlsplit(url)[:2] == urlsplit(self._server)[:2]
        return await fetch_file(self._session, url, auth_headers(self._api_key) if same_origin else {})

    async def __aenter__(self) -> Self:
        """Return the object itself; connections are opened on first use."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), connector=aiohttp.TCPConnector(ssl=self._tls or True)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._session.close()


def auth_headers(api_key: str | None) -> dict[str, str]:
    """Return the HTTP headers that carry an API key; empty if `api_key` is None."""
    return {} if api_key is None else {"Authorization": f"Bearer {api_key}"}


def store_bundle(bundle: LatentMapBundle, cache: FileCache) -> None:
    """Store a map and its files in `cache`."""
    for data in (bundle.document, *bundle.assets.values()):
        cache.put(data)


def load_bundle(cache: FileCache, digest: str) -> LatentMapBundle | None:
    """Return the map with the hash `digest` from `cache`, or None if it or one of its files is not cached."""
    document = cache.get(digest)
    if document is None:
        return None
    assets = {asset: cache.get(asset) for _, _, asset, _ in map_files(parse_map(document))}
    cached = {asset: data for asset, data in assets.items() if data is not None}
    return LatentMapBundle.from_parts(document, cached) if len(cached) == len(assets) else None


async def fetch_file(session: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> bytes:
    """Download a published file without verifying its contents.

    Raises:
        InvalidMap: the response status is not 200, or the file has more than MAX_FILE_BYTES bytes.
        ServerUnreachable: the server did not respond.

    """
    try:
        async with session.get(url, headers=headers) as response:
            if response.status != HTTPStatus.OK:
                raise InvalidMap(f"cannot download {url}: HTTP status {response.status}")
            data = await response.content.read(MAX_FILE_BYTES + 1)
            while len(data) <= MAX_FILE_BYTES and (more := await response.content.read(MAX_FILE_BYTES)):
                data += more
    except (aiohttp.ClientConnectionError, TimeoutError) as error:
        raise ServerUnreachable(f"cannot connect to {url}: {reason_of(error)}") from None
    except aiohttp.InvalidURL:
        raise InvalidMap(f"cannot download {url}: not an absolute http:// or https:// URL") from None
    except (aiohttp.ClientError, ValueError) as error:
        raise InvalidMap(f"cannot download {url}: {error or type(error).__name__}") from None
    if len(data) > MAX_FILE_BYTES:
        raise InvalidMap(f"{url} is larger than {MAX_FILE_BYTES} bytes, the maximum for a published file")
    return data
