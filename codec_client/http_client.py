"""Client of an HTTP server. The body of a response is decoded while the body is being received."""

import asyncio
import base64
import io
import json
import os
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from http import HTTPStatus
from typing import Any

import aiohttp

from codec_client.client import LatentClient
from codec_client.errors import UnexpectedAnswer
from codec_client.event_stream import read_events
from codec_client.http_connection import HttpConnection
from codec_client.http_errors import error_of
from codec_client.latent_requests import DecodingRequest, EncodingRequest
from codec_client.maps import PublishedMaps, fetch_map, load_bundle
from codec_client.received_pixels import ReceivedPixels
from codec_client.request_fields import explicit_fields
from codec_client.response_body import read_up_to
from codec_client.results import ServedModel
from codec_client.stream import ResponseState
from codec_client.tls import tls_context
from codec_wire import WireFormat
from codec_wire.codings import CODINGS, IDENTITY
from codec_wire.errors import DeadlineExceeded, InvalidMap, StreamFailed, truncated_repr
from codec_wire.events import Frame, Started, StreamEvent
from codec_wire.http import (
    ACCEPT,
    DECODE_PATH,
    ENCODE_PATH,
    GENERATION_PATHS,
    INFO_PATH,
    LATENT_MAP_HEADER,
    MAP_PIN_HEADER,
    NPY_MEDIA_TYPE,
    PARAMETERS_HEADER,
    PIXEL_MEDIA_TYPES,
    PROMPT_TRUNCATED_HEADER,
    dictionary_path,
    parse_parameters,
    parse_truncations,
)
from codec_wire.latents import FinishReason, LatentStreamHeader, Modality
from codec_wire.maps import LatentMapBundle
from codec_wire.maps.bundle import sha256
from codec_wire.maps.latent_rgb import LatentRgb
from codec_wire.message_decoder import MessageDecoder, parse_stream_headers
from codec_wire.request import GenerationRequest
from codec_wire.server_sent_events import EVENT_STREAM
from codec_wire.trace_context import TRACEPARENT_HEADER, current_traceparent

_MAX_INFO_BYTES = 1024 * 1024


class HttpClient(LatentClient):
    """Async client of an HTTP server.

    Args:
        server: The server's address, http://HOST:PORT or https://HOST:PORT. A URL that ends in /v1, such as the base
            URL of an OpenAI client, is accepted too.
        wire_format: Wire format of the responses, "msgpack" (default) or "protobuf".
        compressed: Whether responses may be compressed. The default of `compressed` is True.
        ca_file: PEM file with the certificate authority of an https server. By default, the system's certificate
            authorities are used.
        cert_file: PEM file with the client's certificate, for a server that requires a client certificate.
        key_file: PEM file with the private key of the client's certificate.
        map_origins: Other origins, scheme://HOST[:PORT], from which maps and their files may be downloaded. Origins in
            `map_origins` do not receive the API key. By default, no other origins are allowed.
        **options: Keyword arguments of LatentClient: api_key, timeout_s, retries, pinned_map and cache_dir.

    Raises:
        InvalidSettings: `server` is not an HTTP address, a PEM file cannot be read, or `api_key` contains characters
            that cannot be sent.

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
        self._wire_format = WireFormat(wire_format)
        self._encodings = ", ".join(name for name in CODINGS if name != IDENTITY) if compressed else IDENTITY
        self._tls = tls_context(ca_file, cert_file, key_file)
        self._map_origins = tuple(map_origins)
        self._connection = HttpConnection(self.server, self.api_key, self._tls)

    async def latent_map(self, digest: str | None = None) -> LatentMapBundle:
        """Return a latent-space map of the server. See LatentClient.latent_map."""
        bundle = None if digest is None else load_bundle(self.cache, digest)
        if bundle is None:
            bundle = await fetch_map(self.server, digest=digest, cache=self.cache, **self._map_options())
        return bundle

    async def latent_rgb(self, latent_space: str | None = None) -> LatentRgb:
        """Return the matrix that converts latents to approximate RGB values. See LatentClient.latent_rgb."""
        async with PublishedMaps(self.server, **self._map_options()) as published:
            return await published.latent_rgb(latent_space)

    def _map_options(self) -> dict[str, Any]:
        """Return the keyword arguments for PublishedMaps that the settings of this client determine."""
        return {"api_key": self.api_key, "tls": self._tls, "map_origins": self._map_origins}

    async def models(self) -> list[ServedModel]:
        """Return the models that the server serves. See LatentClient.models."""
        try:
            async with asyncio.timeout(self.timeout_s), self._connection.request("GET", INFO_PATH) as response:
                if response.status != HTTPStatus.OK:
                    raise await error_of(response)
                text = await read_up_to(response, _MAX_INFO_BYTES)
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
        """Close the connections and cancel the requests that are still running."""
        await self._connection.close()

    def _events(
        self,
        request: GenerationRequest,
        response: ResponseState,
        timeout_s: float,  # noqa: ARG002 - HTTP has no header for it
    ) -> AsyncGenerator[StreamEvent, None]:
        path, body = GENERATION_PATHS[request.modality], self._body(request)
        if request.preview_every is not None:
            return self._event_stream(path, body, response)
        return self._stream_events(self._connection.request("POST", path, self._headers(), json=body), response)

    def _encoded_events(
        self,
        request: EncodingRequest,
        response: ResponseState,
        timeout_s: float,  # noqa: ARG002 - HTTP has no header for it
    ) -> AsyncGenerator[StreamEvent, None]:
        query = {
            "model": request.model,
            "latent_space": request.latent_space,
            "pipeline": request.pipeline,
            "size": None if request.size is None else "{}x{}".format(*request.size),
            "keyframe_interval": request.keyframe_interval,
            "seed": request.seed,
            "stream_format": self._wire_format,
        }
        upload = _upload(request.file, query)
        return self._stream_events(self._connection.request("POST", ENCODE_PATH, self._headers(), **upload), response)

    async def _decoded_pixels(
        self,
        request: DecodingRequest,
        response: ResponseState,
        timeout_s: float,  # noqa: ARG002 - HTTP has no header for it
    ) -> ReceivedPixels:
        accepted = PIXEL_MEDIA_TYPES[request.pixel_format]
        headers = self._headers() | {"Accept": accepted, "Accept-Encoding": IDENTITY}
        if request.encoding != IDENTITY:
            headers["Content-Encoding"] = request.encoding
        upload = _upload(request.body, {"model": request.model, "quality": request.quality})
        async with self._connection.request("POST", DECODE_PATH, headers, **upload) as http_response:
            await self._start(http_response, response)
            if http_response.content_type != accepted:
                received = http_response.content_type
                raise UnexpectedAnswer(f"{self.server} sent the Content-Type {received}, expected {accepted}")
            pixels = ReceivedPixels()
            async for chunk in http_response.content.iter_any():
                response.received_bytes += len(chunk)
                pixels.add(chunk)
        if accepted == NPY_MEDIA_TYPE:
            pixels.read_npy_header()
        return pixels

    async def _start(self, http_response: aiohttp.ClientResponse, response: ResponseState) -> None:
        """Record in `response` the start, the map hash and the parameters of `http_response`.

        The map hash and the parameters are read from the headers of `http_response`.

        If the status of `http_response` is not 200, raises the error that `http_response` reports.
        """
        if http_response.status != HTTPStatus.OK:
            raise await error_of(http_response)
        response.started = True
        response.record_map_hash(http_response.headers.get(LATENT_MAP_HEADER), self.pinned_map)
        response.parameters = parse_parameters(http_response.headers.get(PARAMETERS_HEADER))

    async def _event_stream(
        self, path: str, body: dict[str, Any], response: ResponseState
    ) -> AsyncGenerator[StreamEvent, None]:
        """Send a request and yield the Server-Sent Events in the response."""
        headers = self._headers() | {"Accept": EVENT_STREAM, "Accept-Encoding": IDENTITY}
        async with self._connection.request("POST", path, headers, json=body) as http_response:
            await self._start(http_response, response)
            async with aclosing(read_events(http_response, response, self._wire_format)) as events:
                async for event in events:
                    yield event

    async def _stream_events(
        self, sending: AbstractAsyncContextManager[aiohttp.ClientResponse], response: ResponseState
    ) -> AsyncGenerator[StreamEvent, None]:
        """Send a request and yield the events of the latent stream in the response."""
        async with sending as http_response:
            await self._start(http_response, response)
            messages = await self._decoder(http_response.headers)
            async for chunk in http_response.content.iter_any():
                response.received_bytes += len(chunk)
                for message in messages.feed(chunk):
                    if isinstance(message, LatentStreamHeader):
                        yield Started(message, parse_truncations(http_response.headers.get(PROMPT_TRUNCATED_HEADER)))
                        continue
                    if message.finish_reason is FinishReason.ERROR:
                        raise StreamFailed(f"the stream failed at frame {message.seq}; see the log of the server")
                    yield Frame(message)
            messages.close()

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": ACCEPT[self._wire_format], "Accept-Encoding": self._encodings}
        if self.pinned_map is not None:
            headers[MAP_PIN_HEADER] = self.pinned_map
        if (traceparent := current_traceparent()) is not None:
            headers[TRACEPARENT_HEADER] = traceparent
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
        """Return the zstd dictionary with the hash `digest` from the cache or the server.

        Raises InvalidMap if the hash of the server's file is not `digest`.
        """
        data = self.cache.get(digest)
        if data is None:
            path = dictionary_path(digest)
            data = await self._connection.download(path)
            if sha256(data) != digest:
                raise InvalidMap(f"{self.server}{path} has the hash {sha256(data)}, expected {digest}")
            self.cache.put(data)
        return data


def _as_json(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _upload(data: bytes, query: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a request with the body `data`. Query parameters with the value None are left out."""
    return {
        "data": io.BytesIO(data),  # aiohttp sends bytes in one piece
        "params": {name: str(value) for name, value in query.items() if value is not None},
    }
