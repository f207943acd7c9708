"""Download of a published file, with a size limit and without decompression."""

import ssl
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp

from codec_client.api_key import bearer
from codec_client.http_errors import unreachable
from codec_client.response_body import read_up_to
from codec_wire.codings import IDENTITY
from codec_wire.errors import InvalidMap

MAX_FILE_BYTES = 16 * 1024 * 1024
"""Maximum size in bytes of a file that a map refers to. For comparison, zstd dictionaries have a few hundred
kilobytes."""
TIMEOUT_S = 30.0
"""Timeout of a download in seconds."""


def origin_of(url: str) -> tuple[str, str]:
    """Return the scheme and the HOST[:PORT] of `url`, or two empty strings if `url` is not a URL."""
    try:
        scheme, location = urlsplit(url)[:2]
    except ValueError:  # e.g. an invalid IPv6 address
        return "", ""
    return scheme.lower(), location.lower()


def file_session(tls: ssl.SSLContext | None = None) -> aiohttp.ClientSession:
    """Return an HTTP session for use with fetch_file.

    The session does not decompress responses, so that a small response cannot become a large file.
    """
    return aiohttp.ClientSession(
        auto_decompress=False,
        headers={"Accept-Encoding": IDENTITY},
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
        connector=aiohttp.TCPConnector(ssl=tls or True),
    )


def auth_headers(api_key: str | None) -> dict[str, str]:
    """Return the HTTP headers that contain the API key, or no headers if no API key is given.

    Raises InvalidSettings if the API key contains characters that cannot be sent.
    """
    return {} if api_key is None else {"Authorization": bearer(api_key)}


async def fetch_file(
    session: aiohttp.ClientSession,
    url: str,
    headers: Mapping[str, str],
    *,
    max_bytes: int = MAX_FILE_BYTES,
    redirects: bool = False,
) -> bytes:
    """Return the contents of a published file. The contents are not verified.

    HTTP redirects are followed only if `redirects` is true.

    Raises:
        InvalidMap: the response status is not 200, or the file has more than `max_bytes` bytes.
        ServerUnreachable: the server did not respond.

    """
    try:
        async with session.get(url, headers=headers, allow_redirects=redirects) as response:
            if response.status != HTTPStatus.OK:
                raise InvalidMap(f"cannot download {url}: HTTP status {response.status}")
            data = await read_up_to(response, max_bytes + 1)
    except (aiohttp.ClientConnectionError, TimeoutError) as error:
        raise unreachable(url, error) from None
    except aiohttp.InvalidURL:
        raise InvalidMap(f"cannot download {url}: the URL must begin with http:// or https://") from None
    except (aiohttp.ClientError, ValueError) as error:
        raise InvalidMap(f"cannot download {url}: {error or type(error).__name__}") from None
    if len(data) > max_bytes:
        raise InvalidMap(f"{url} is larger than {max_bytes} bytes, the maximum for this file")
    return data
