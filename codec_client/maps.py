"""Download of latent-space maps, and of the files to which the maps refer.

All hashes of maps and files are verified.
"""

import json
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin

from codec_client.cache import FileCache
from codec_client.downloads import MAX_FILE_BYTES, auth_headers, fetch_file, file_session, origin_of
from codec_wire.digest import is_digest
from codec_wire.errors import InvalidMap, NotFound, truncated_repr
from codec_wire.http import INDEX_PATH, WELL_KNOWN_PATH
from codec_wire.maps import LatentMapBundle
from codec_wire.maps.bundle import map_files
from codec_wire.maps.document import MAX_DOCUMENT_BYTES, parse_map
from codec_wire.maps.latent_rgb import MAX_RGB_BYTES, LatentRgb

MAX_INDEX_BYTES = 1024 * 1024
"""Maximum size in bytes of the index of maps that a server publishes. An entry of the index has about 200 bytes."""
MAX_BUNDLE_BYTES = 64 * 1024 * 1024
"""Maximum total size in bytes of the files that a map refers to."""
MAX_FILES = 64
"""Maximum number of maps in an index, and maximum number of files that one map refers to."""


async def fetch_map(
    server: str, latent_space: str | None = None, *, digest: str | None = None, **options: Any
) -> LatentMapBundle:
    """Download one latent-space map and the files to which the map refers, and verify all hashes.

    Args:
        server: The server's address, http://HOST:PORT or https://HOST:PORT.
        latent_space: Id of the latent space. Default: any latent space.
        digest: Hash of the map ("sha256:<hex>"). Default: any hash. The first map in the server's index that matches
            `latent_space` and `digest` is returned.
        **options: Keyword arguments of PublishedMaps: api_key, cache, tls and map_origins.

    Raises:
        InvalidMap: the server publishes no map that matches `latent_space` and `digest`. InvalidMap is also raised if a
            file is missing, is invalid, or does not have the hash that is stated in the map.
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
    raise InvalidMap(f"{server} does not publish the latent-space map {wanted}; available: {listed}")


async def fetch_maps(server: str, **options: Any) -> list[LatentMapBundle]:
    """Download all latent-space maps that `server` publishes.

    The options and errors are the same as in fetch_map.
    """
    async with PublishedMaps(server, **options) as published:
        return [await published.bundle(entry) for entry in await published.entries()]


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """Entry of one map in a server's index.

    `latent_space` is the id of the map's latent space. `url` is the URL of the map. `hash` is the hash of the map
    ("sha256:<hex>"). `rgb_url` is the URL of the latent-to-RGB matrix, or None if the server has no matrix.
    """

    latent_space: str
    url: str
    hash: str
    rgb_url: str | None = None


class PublishedMaps:
    """The latent-space maps that a server publishes. Use this class with `async with`.

    Args:
        server: The server's address, http://HOST:PORT or https://HOST:PORT.
        api_key: API key that is sent to `server` as a bearer token. Hosts other than `server` do not receive the API
            key.
        cache: Cache of downloaded files. A file in the cache is not downloaded again. Default: no cache.
        tls: TLS context for an https server. Default: the system's certificate authorities.
        map_origins: Origins from which files may be downloaded in addition to `server`, in the form
            scheme://HOST[:PORT]. Default: no additional origins.

    If the origin of a file's URL is not allowed, the file may be requested from `server` instead. The file is requested
    from `server` only if Codec servers publish files at the path of the URL. A server behind a proxy does not always
    know the origin that clients use.

    """

    def __init__(
        self,
        server: str,
        *,
        api_key: str | None = None,
        cache: FileCache | None = None,
        tls: ssl.SSLContext | None = None,
        map_origins: Iterable[str] = (),
    ) -> None:
        self._server = server
        self._api_key = api_key
        self._cache = cache
        self._tls = tls
        self._origins = {origin_of(server), *map(origin_of, map_origins)}

    async def entries(self) -> list[IndexEntry]:
        """Return the entries of the server's index. Raises InvalidMap if the index is missing or invalid."""
        index = await self._fetch(INDEX_PATH, MAX_INDEX_BYTES)
        try:
            listed = json.loads(index)["latents"]
            entries = [
                IndexEntry(
                    str(entry["id"]),
                    str(entry["url"]),
                    str(entry["hash"]),
                    None if entry.get("rgb_url") is None else str(entry["rgb_url"]),
                )
                for entry in listed
            ]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise InvalidMap(
                f"{self._server}{INDEX_PATH} is not an index of latent-space maps: {truncated_repr(index)}"
            ) from None
        if len(entries) > MAX_FILES:
            raise InvalidMap(f"{self._server}{INDEX_PATH} lists {len(entries)} maps, but the maximum is {MAX_FILES}")
        for entry in entries:
            if not is_digest(entry.hash):
                raise InvalidMap(
                    f"{self._server}{INDEX_PATH}: hash must be sha256:<64 hex>, got {truncated_repr(entry.hash)}"
                )
        return entries

    async def latent_rgb(self, latent_space: str | None) -> LatentRgb:
        """Return the latent-to-RGB matrix of a latent space.

        If `latent_space` is not given, the matrix of the first map in the index is returned. Raises NotFound if the
        server has no matrix for the latent space, and InvalidMap if the file is not a matrix.
        """
        for entry in await self.entries():
            if latent_space in (None, entry.latent_space):
                if entry.rgb_url is None:
                    break
                return LatentRgb.parse(await self._fetch(entry.rgb_url, MAX_RGB_BYTES))
        raise NotFound("latent_space", f"{self._server} has no latent-to-RGB matrix for {latent_space or 'its maps'}")

    async def bundle(self, entry: IndexEntry) -> LatentMapBundle:
        """Return the map of `entry`, and the files to which the map refers.

        Raises InvalidMap if a file is missing or does not have the expected hash.
        """
        document = await self._load(entry.url, entry.hash, MAX_DOCUMENT_BYTES)
        files = map_files(parse_map(document))
        if len(files) > MAX_FILES:
            raise InvalidMap(f"{entry.url} refers to {len(files)} files, but the maximum is {MAX_FILES}")
        assets: dict[str, bytes] = {}
        remaining = MAX_BUNDLE_BYTES
        for file in files:
            if file.hash not in assets:
                assets[file.hash] = await self._load(file.url, file.hash, min(MAX_FILE_BYTES, remaining))
                remaining -= len(assets[file.hash])
        bundle = LatentMapBundle.from_parts(document, assets)
        if bundle.hash != entry.hash:
            raise InvalidMap(
                f"{self._server}: the index lists the map {entry.hash}, but {entry.url} has the hash {bundle.hash}"
            )
        if self._cache is not None:
            store_bundle(bundle, self._cache)
        return bundle

    async def _load(self, url: str, digest: str, max_bytes: int) -> bytes:
        """Return a published file from the cache, or download the file if the file is not cached."""
        cached = None if self._cache is None else self._cache.get(digest)
        return await self._fetch(url, max_bytes) if cached is None else cached

    async def _fetch(self, url: str, max_bytes: int) -> bytes:
        url = self._allowed_url(url)
        headers = auth_headers(self._api_key) if origin_of(url) == origin_of(self._server) else {}
        return await fetch_file(self._session, url, headers, max_bytes=max_bytes)

    def _allowed_url(self, url: str) -> str:
        """Return the absolute URL from which to download the file at `url`.

        `url` may be relative to the server's address. Raises InvalidMap if the origin of `url` is not allowed.
        """
        try:
            url = urljoin(self._server, url)
        except ValueError:  # e.g. an invalid IPv6 address
            raise InvalidMap(f"{self._server} sent an invalid URL: {truncated_repr(url)}") from None
        if origin_of(url) in self._origins:
            return url
        _, published, path = url.partition(f"{WELL_KNOWN_PATH}/")
        if published:
            return urljoin(self._server, published + path)
        raise InvalidMap(
            f"{self._server} refers to {truncated_repr(url)}, which has another origin; "
            "to allow this origin, add it (scheme://HOST[:PORT]) to map_origins"
        )

    async def __aenter__(self) -> Self:
        """Return this PublishedMaps object. A connection is opened when a request first needs the connection."""
        self._session = file_session(self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._session.close()


def store_bundle(bundle: LatentMapBundle, cache: FileCache) -> None:
    """Store the map of `bundle` and the files of this map in `cache`."""
    for data in (bundle.document, *bundle.assets.values()):
        cache.put(data)


def load_bundle(cache: FileCache, digest: str) -> LatentMapBundle | None:
    """Return the map with the hash `digest` from `cache`, or None if the map or a file of the map is not cached."""
    document = cache.get(digest)
    if document is None:
        return None
    assets = {asset: cache.get(asset) for _, _, asset, _ in map_files(parse_map(document))}
    cached = {asset: data for asset, data in assets.items() if data is not None}
    return LatentMapBundle.from_parts(document, cached) if len(cached) == len(assets) else None
