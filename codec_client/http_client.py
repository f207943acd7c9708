"""HTTP client. Bodies are msgpack or protobuf with any content coding, and are decoded as they are received."""

import asyncio
import base64
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import aiohttp

from codec_client.client import LatentClient, explicit_fields
from codec_client.downloads import auth_headers, fetch_file
from codec_client.errors import ServerUnreachable, UnexpectedAnswer
from codec_client.http_errors import error_of, reason_of
from codec_client.maps import fetch_map, load_bundle
from codec_client.results import ServedModel
from codec_client.stream import ResponseState
from codec_client.tls import tls_context
from codec_wire import WireFormat
from codec_wire.codings import CODINGS, IDENTITY
from codec_wire.errors import (
    DeadlineExceeded,
    InvalidMap,
    InvalidSettings,
    StreamFailed,
    TruncatedStream,
    truncated_repr,
)
from codec_wire.events import Frame, Started, StreamEvent
from codec_wire.http import (
    ACCEPT,
    GENERATION_PATHS,
    INFO_PATH,
    LATENT_MAP_HEADER,
    MAP_PIN_HEADER,
    PROMPT_TRUNCATED_HEADER,
    dictionary_path,
    parse_truncations,
)
from codec_wire.latents import FinishReason, LatentStreamHeader, Modality
from codec_wire.maps import LatentMapBundle
from codec_wire.maps.bundle import sha256
from codec_wire.message_decoder import MessageDecoder, parse_stream_headers
from codec_wire.request import GenerationRequest

CONNECT_TIMEOUT_S = 10.0
_MAX_INFO_BYTES = 1024 * 1024


class HttpClient(LatentClient):
    """Async client of an HTTP server.

    Args:
        server: The server's address, http://HOST:PORT or https://HOST:PORT. The base URL of an OpenAI client, which
            ends in /v1, is accepted too.
        wire_format: Wire format of the responses, "msgpack" (default) or "protobuf".
        compressed: Whether responses may be compressed. Default: True.
        ca_file: PEM file with the certificate authority of an https server. Default: the system's certificate
            authorities.
        cert_file: PEM file with the client's certificate, for a server that requires one, and `key_file` with its key.
        map_origins: Other origins, scheme://HOST[:PORT], from which maps and their files may be downloaded. They do
            not receive the API key. Default: none.
        **options: Keyword arguments of LatentClient: api_key, timeout_s, retries, pinned_map and cache_dir.

    Raises:
        InvalidSettings: `server` is not an HTTP address, or a PEM file cannot be read.

    """

    def __init__(
        self,
        server: str,
        *,
        wire_format: WireFormat | str = WireFormat.MSGPACK,
        compressed: bool = True,
        ca_file: str | os.PathLike[str] | None = None,
        cert_file: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None,
        map_origins: Iterable[str] = (),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.server = (server if "://" in server else f"http://{server}").rstrip("/").removesuffix("/v1")
        if not self.server.startswith(("http://", "https://")):
            raise InvalidSettings(f"server must be http://HOST:PORT or https://HOST:PORT, got {server!r}")
        self._wire_format = WireFormat(wire_format)
        self._encodings = ", ".join(name for name in CODINGS if name != IDENTITY) if compressed else IDENTITY
        self._tls = tls_context(ca_file, cert_file, key_file)
        self._map_origins = tuple(map_origins)
        self._session: aiohttp.ClientSession | None = None

    async def latent_map(self, digest: str | None = None) -> LatentMapBundle:
        """Return a latent-space map of the server. See LatentClient.latent_map."""
        bundle = None if digest is None else load_bundle(self.cache, digest)
        if bundle is None:
            bundle = await fetch_map(
                self.server,
                digest=digest,
                api_key=self.api_key,
                cache=self.cache,
                tls=self._tls,
                map_origins=self._map_origins,
            )
        return bundle

    async def models(self) -> list[ServedModel]:
        """Return the models that the server serves. See LatentClient.models."""
        try:
            async with asyncio.timeout(self.timeout_s), self._request("GET", INFO_PATH) as response:
                if response.status != HTTPStatus.OK:
                    raise await error_of(response)
                text = await response.content.read(_MAX_INFO_BYTES)
        except TimeoutError:
            raise DeadlineExceeded(f"{self.server}{INFO_PATH} did not respond within {self.timeout_s:g} s") from None
        try:
            return [
                ServedModel(
                    name=str(model["model"]),
                    aliases=tuple(map(str, model["model_aliases"])),
                    modalities=tuple(map(Modality, model["modality_supported"])),
                    latent_space=str(model["latent_space_id"]),
                    map_hash=str(model["latent_map_sha256"]),
                )
                for model in json.loads(text)["models"]
            ]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UnexpectedAnswer(
                f"the response of {self.server}{INFO_PATH} does not list models: {truncated_repr(text)}"
            ) from None

    async def close(self) -> None:
        """Close the connections and cancel the generations that still run over them."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _events(
        self,
        request: GenerationRequest,
        response: ResponseState,
        timeout_s: float,  # noqa: ARG002 - HTTP has no header for it
    ) -> AsyncGenerator[StreamEvent, None]:
        path, body = GENERATION_PATHS[request.modality], self._body(request)
        async with self._request("POST", path, body, self._headers()) as http_response:
            if http_response.status != HTTPStatus.OK:
                raise await error_of(http_response)
            response.started = True
            self._record_map_hash(response, http_response.headers.get(LATENT_MAP_HEADER))
            messages = await self._decoder(http_response.headers)
            async for chunk in http_response.content.iter_any():
                response.received_bytes += len(chunk)
                for message in messages.feed(chunk):
                    if isinstance(message, LatentStreamHeader):
                        truncated = http_response.headers.get(PROMPT_TRUNCATED_HEADER)
                        yield Started(message, parse_truncations(truncated))
                        continue
                    if message.finish_reason is FinishReason.ERROR:
                        raise StreamFailed(
                            f"the server failed at frame {message.seq}; see the server's log for the reason"
                        )
                    yield Frame(message)
            messages.close()

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request with the API key and yield the response. Raises aiohttp's errors as CodecErrors."""
        started = False
        try:
            async with self._get_session().request(
                method,
                self.server + path,
                json=body,
                headers={**auth_headers(self.api_key), **(headers or {})},
                allow_redirects=False,
            ) as response:
                started = True
                yield response
        except aiohttp.ClientConnectorCertificateError as error:
            raise ServerUnreachable(f"the certificate of {self.server} is not trusted: {reason_of(error)}") from None
        except aiohttp.ClientConnectorSSLError as error:
            raise ServerUnreachable(
                f"TLS handshake with {self.server} failed: {reason_of(error)}; should it be http://?"
            ) from None
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            raise InvalidSettings(
                f"server must be http://HOST:PORT or https://HOST:PORT, got {self.server!r}"
            ) from None
        except aiohttp.ClientResponseError:
            raise UnexpectedAnswer(f"{self.server} is not an HTTP server; is it the gRPC port?") from None
        except (aiohttp.ClientError, ConnectionError) as error:
            if started:
                raise TruncatedStream(f"the connection was lost during the response: {reason_of(error)}") from None
            raise ServerUnreachable(f"cannot connect to {self.server}: {reason_of(error)}") from None

    def _get_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                auto_decompress=False,
                headers={"Accept-Encoding": IDENTITY},  # default for requests without their own
                connector=aiohttp.TCPConnector(ssl=self._tls or True),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            )
        return self._session

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": ACCEPT[self._wire_format], "Accept-Encoding": self._encodings}
        if self.pinned_map is not None:
            headers[MAP_PIN_HEADER] = self.pinned_map
        return headers

    def _body(self, request: GenerationRequest) -> dict[str, Any]:
        body = {name: _as_json(value) for name, value in explicit_fields(request).items()}
        if request.size is not None:
            body["size"] = "{}x{}".format(*request.size)
        return body | {"stream_format": self._wire_format, "modality": request.modality}

    async def _decoder(self, headers: Mapping[str, str]) -> MessageDecoder:
        wire_format, encoding, digest = parse_stream_headers(headers)
        return MessageDecoder(wire_format, encoding, None if digest is None else await self._dictionary(digest))

    async def _dictionary(self, digest: str) -> bytes:
        """Return the zstd dictionary with the hash `digest`, from the cache or from the server, verified."""
        data = self.cache.get(digest)
        if data is None:
            path = dictionary_path(digest)
            data = await fetch_file(self._get_session(), self.server + path, auth_headers(self.api_key))
            if sha256(data) != digest:
                raise InvalidMap(f"{self.server}{path} has the hash {sha256(data)}, expected {digest}")
            self.cache.put(data)
        return data


def _as_json(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
