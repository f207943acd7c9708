"""A client over HTTP: msgpack or protobuf bodies, in any content coding, decoded as they arrive."""

import asyncio
import base64
import json
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import aiohttp

from codec_client.client import LatentClient, values_of
from codec_client.errors import ServerUnreachable, UnexpectedAnswer
from codec_client.http_errors import error_of, reason_of
from codec_client.maps import fetch_file, fetch_map, kept, key_headers
from codec_client.results import ServedModel
from codec_client.stream import Arrival
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
from codec_wire.http import ACCEPT, GENERATION_PATHS, INFO_PATH, LATENT_MAP_HEADER, MAP_PIN_HEADER, dictionary_path
from codec_wire.latents import FinishReason, LatentStreamHeader, Modality
from codec_wire.maps import LatentMapBundle
from codec_wire.maps.bundle import sha256
from codec_wire.message_decoder import MessageDecoder, coding_named_by
from codec_wire.request import GenerationRequest

CONNECT_TIMEOUT_S = 10.0
_MAX_INFO_BYTES = 1024 * 1024


class HttpClient(LatentClient):
    """A client of the HTTP facade at `server` (http://HOST:PORT or https://...). See LatentClient.

    `wire_format` is what bodies are asked for in; `compressed` whether they may be; `ca_file` is a PEM file with the
    certificate authority of an https server, the system's for None.
    """

    def __init__(
        self,
        server: str,
        *,
        wire_format: WireFormat | str = WireFormat.MSGPACK,
        compressed: bool = True,
        ca_file: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        # OpenAI's clients are given the address with /v1 after it.
        self.server = (server if "://" in server else f"http://{server}").rstrip("/").removesuffix("/v1")
        if not self.server.startswith(("http://", "https://")):
            raise InvalidSettings(f"the server must be http://HOST:PORT or https://HOST:PORT, got {server!r}")
        self._wire_format = WireFormat(wire_format)
        self._encodings = ", ".join(name for name in CODINGS if name != IDENTITY) if compressed else IDENTITY
        self._tls = trusted(ca_file)
        self._session: aiohttp.ClientSession | None = None

    async def latent_map(self, digest: str | None = None) -> LatentMapBundle:
        """Return the server's latent-space map. See LatentClient."""
        found = None if digest is None else kept(self.cache, digest)
        if found is None:
            found = await fetch_map(self.server, digest=digest, api_key=self.api_key, cache=self.cache, tls=self._tls)
        return found

    async def models(self) -> list[ServedModel]:
        """Return the models that the server runs. See LatentClient."""
        try:
            async with asyncio.timeout(self.timeout_s), self._asked("GET", INFO_PATH) as response:
                if response.status != HTTPStatus.OK:
                    raise await error_of(response)
                text = await response.content.read(_MAX_INFO_BYTES)
        except TimeoutError:
            raise DeadlineExceeded(f"{self.server}{INFO_PATH} gave no answer within {self.timeout_s:g} s") from None
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
            raise UnexpectedAnswer(f"{self.server}{INFO_PATH} lists no models: {truncated_repr(text)}") from None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _events(
        self,
        request: GenerationRequest,
        arrival: Arrival,
        seconds: float,  # noqa: ARG002 - HTTP has no way to tell the server
    ) -> AsyncGenerator[StreamEvent, None]:
        path, body = GENERATION_PATHS[request.modality], self._body(request)
        async with self._asked("POST", path, body, self._headers()) as response:
            if response.status != HTTPStatus.OK:
                raise await error_of(response)
            arrival.answered = True
            self._is_of_map(arrival, response.headers.get(LATENT_MAP_HEADER))
            messages = await self._decoder(response.headers)
            async for chunk in response.content.iter_any():
                arrival.received_bytes += len(chunk)
                for message in messages.feed(chunk):
                    if isinstance(message, LatentStreamHeader):
                        yield Started(message)
                        continue
                    if message.finish_reason is FinishReason.ERROR:
                        raise StreamFailed(f"the server failed at frame {message.seq}; its log has the reason")
                    yield Frame(message)
            messages.close()

    @asynccontextmanager
    async def _asked(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request with the API key; what fails on the way is said as an error of ours."""
        answered = False
        try:
            async with self._connected().request(
                method,
                self.server + path,
                json=body,
                headers={**key_headers(self.api_key), **(headers or {})},
                allow_redirects=False,
            ) as response:
                answered = True
                yield response
        except aiohttp.ClientConnectorCertificateError as error:
            raise ServerUnreachable(f"{self.server} cannot be trusted: {reason_of(error)}") from None
        except aiohttp.ClientConnectorSSLError as error:
            raise ServerUnreachable(f"no TLS with {self.server}: {reason_of(error)}; is it http://?") from None
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            raise InvalidSettings(f"the server must be http://HOST:PORT, got {self.server!r}") from None
        except aiohttp.ClientResponseError:
            raise UnexpectedAnswer(f"what answers at {self.server} is no HTTP server; is it the gRPC port?") from None
        except (aiohttp.ClientError, ConnectionError) as error:
            if answered:
                raise TruncatedStream(f"the connection broke while the answer came: {reason_of(error)}") from None
            raise ServerUnreachable(f"no server answers at {self.server}: {reason_of(error)}") from None

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                auto_decompress=False,
                headers={"Accept-Encoding": IDENTITY},  # unless a request can do with another
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
        body = {name: _as_json(value) for name, value in values_of(request).items()}
        if request.size is not None:
            body["size"] = "{}x{}".format(*request.size)
        return body | {"stream_format": self._wire_format, "modality": request.modality}

    async def _decoder(self, headers: Mapping[str, str]) -> MessageDecoder:
        wire_format, encoding, digest = coding_named_by(headers)
        return MessageDecoder(wire_format, encoding, None if digest is None else await self._dictionary(digest))

    async def _dictionary(self, digest: str) -> bytes:
        """Return the zstd dictionary with that hash: it needs no trust in whoever has it."""
        data = self.cache.get(digest)
        if data is None:
            path = dictionary_path(digest)
            data = await fetch_file(self._connected(), self.server + path, key_headers(self.api_key))
            if sha256(data) != digest:
                raise InvalidMap(f"{self.server}{path} has the hash {sha256(data)}")
            self.cache.put(data)
        return data


def trusted(ca_file: str | os.PathLike[str] | None) -> ssl.SSLContext | None:
    """Return what trusts the certificate authority in a PEM file, None for the system's own.

    Raises InvalidSettings for a file that is none.
    """
    if ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=os.fspath(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise InvalidSettings(f"{os.fspath(ca_file)} is no PEM file of certificates: {reason_of(error)}") from None


def _as_json(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
