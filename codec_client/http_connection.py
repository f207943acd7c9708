"""Connections to one HTTP server. Errors of aiohttp are raised as CodecErrors."""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from codec_client.downloads import auth_headers, fetch_file
from codec_client.errors import UnexpectedAnswer
from codec_client.http_errors import reason_of, unreachable
from codec_wire.codings import IDENTITY
from codec_wire.errors import InvalidSettings, TruncatedStream

CONNECT_TIMEOUT_S = 10.0


class HttpConnection:
    """Connections to one HTTP server. A connection is opened when a request first needs the connection.

    `server` is http://HOST:PORT or https://HOST:PORT. `api_key` is sent as a bearer token. Without a TLS context `tls`,
    the server's certificate is verified with the system's certificate authorities. Raises InvalidSettings if `server`
    is not an HTTP address, or if `api_key` contains characters that cannot be sent.
    """

    def __init__(self, server: str, api_key: str | None, tls: ssl.SSLContext | None) -> None:
        if not server.startswith(("http://", "https://")):
            raise InvalidSettings(f"server must be http://HOST:PORT or https://HOST:PORT, got {server!r}")
        self._server = server
        self._headers = auth_headers(api_key)
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, **body: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and yield the response, which can have any HTTP status.

        `body` contains keyword arguments of aiohttp: json, data and params. Raises ServerUnreachable if the server does
        not respond, and UnexpectedAnswer if the response is not HTTP. Raises InvalidSettings if the address of the
        server is invalid, and TruncatedStream if the connection is lost while the response is read.
        """
        started = False
        try:
            async with self._get_session().request(
                method,
                self._server + path,
                headers={**self._headers, **(headers or {})},
                allow_redirects=False,
                **body,
            ) as response:
                started = True
                yield response
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            raise InvalidSettings(
                f"server must be http://HOST:PORT or https://HOST:PORT, got {self._server!r}"
            ) from None
        except UnicodeError:  # the host name of the server is not valid, e.g. it contains ".."
            if started:
                raise
            raise InvalidSettings(
                f"server must be http://HOST:PORT or https://HOST:PORT, got {self._server!r}"
            ) from None
        except aiohttp.ClientResponseError:
            raise UnexpectedAnswer(f"{self._server} is not an HTTP server; is it the gRPC port?") from None
        except (aiohttp.ClientError, ConnectionError) as error:
            if started:
                raise TruncatedStream(f"the connection was lost during the response: {reason_of(error)}") from None
            raise unreachable(self._server, error) from None

    async def download(self, path: str) -> bytes:
        """Return the contents of a file that the server publishes. The contents are not verified.

        See codec_client.downloads.fetch_file.
        """
        return await fetch_file(self._get_session(), self._server + path, self._headers)

    async def close(self) -> None:
        """Close the connections and cancel the requests that are still running."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _get_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                auto_decompress=False,
                headers={"Accept-Encoding": IDENTITY},  # default for requests without their own
                connector=aiohttp.TCPConnector(ssl=self._tls or True),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            )
        return self._session
