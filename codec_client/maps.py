"""Fetches a server's latent-space map and everything it names, and believes none of it before the hashes agree."""

import json
import ssl
from http import HTTPStatus
from urllib.parse import urljoin

import aiohttp

from codec_client.cache import FileCache
from core.errors import InvalidMap, shown
from core.maps import LatentMapBundle
from core.maps.bundle import files_named_by
from core.maps.document import parse_map

INDEX = "/.well-known/codec/index.json"
MAX_FILE_BYTES = 16 * 1024 * 1024
"""A map is a few kilobytes and a dictionary some hundred: whatever is larger is none."""
TIMEOUT_S = 30.0


async def fetch_map(
    server: str, latent_space: str | None = None, *, cache: FileCache | None = None, tls: ssl.SSLContext | None = None
) -> LatentMapBundle:
    """Return the bundle that the server at `server` (http://HOST:PORT) publishes, verified.

    `latent_space` is the id wanted, the first one listed for None; what `cache` holds is not fetched, and what is
    fetched it keeps; `tls` is for a server with a certificate of one's own. Raises InvalidMap saying which file
    cannot be had or has another hash than it should.
    """
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    connector = aiohttp.TCPConnector(ssl=tls or True)

    async def file(url: str, digest: str) -> bytes:
        kept = None if cache is None else cache.get(digest)
        return await fetch_file(session, urljoin(server, url)) if kept is None else kept

    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        url, expected = _entry_of(await fetch_file(session, urljoin(server, INDEX)), latent_space, server)
        document = await file(url, expected)
        assets = {digest: await file(url, digest) for _, url, digest, _ in files_named_by(parse_map(document))}
    bundle = LatentMapBundle.from_parts(document, assets)
    if bundle.hash != expected:
        raise InvalidMap(f"{server} lists its map as {expected}, and serves {bundle.hash}")
    if cache is not None:
        keep(bundle, cache)
    return bundle


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


def _entry_of(index: bytes, latent_space: str | None, server: str) -> tuple[str, str]:
    """Return (url, hash) of the map that an index lists for that latent space."""
    try:
        entries = json.loads(index)["latents"]
        found = next(entry for entry in entries if latent_space in (None, entry["id"]))
        return str(found["url"]), str(found["hash"])
    except StopIteration:
        raise InvalidMap(f"{server} publishes no map of {latent_space or 'any latent space'}") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise InvalidMap(f"{server}{INDEX} is no index of latent-space maps: {shown(index)}") from None


async def fetch_file(session: aiohttp.ClientSession, url: str) -> bytes:
    """Return a published file, unverified. Raises InvalidMap where it cannot be had or is too large to be one."""
    try:
        async with session.get(url) as response:
            if response.status != HTTPStatus.OK:
                raise InvalidMap(f"{url} answers {response.status}")
            data = await response.content.read(MAX_FILE_BYTES + 1)
            while len(data) <= MAX_FILE_BYTES and (more := await response.content.read(MAX_FILE_BYTES)):
                data += more
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise InvalidMap(f"{url} cannot be fetched: {error or type(error).__name__}") from None
    if len(data) > MAX_FILE_BYTES:
        raise InvalidMap(f"{url} has more than {MAX_FILE_BYTES} bytes")
    return data
