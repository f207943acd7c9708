"""Client of a gRPC server."""

import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from typing import Any

import grpc.aio

from codec_client.api_key import bearer
from codec_client.client import LatentClient
from codec_client.grpc_connection import GrpcConnection, channel_credentials
from codec_client.latent_requests import RGB, DecodingRequest, EncodingRequest
from codec_client.maps import load_bundle, store_bundle
from codec_client.received_pixels import ReceivedPixels
from codec_client.request_fields import explicit_fields
from codec_client.results import ServedModel
from codec_client.stream import ResponseState
from codec_wire.errors import InvalidMap, InvalidRequest, NotAcceptable, NotFound
from codec_wire.events import Frame, Started, StreamEvent
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.grpc import MAP_HASH_KEY, MAP_PIN_KEY, MODALITIES, PARAMETERS_KEY, event_from_message
from codec_wire.http import parse_parameters
from codec_wire.maps import LatentMapBundle
from codec_wire.maps.latent_rgb import LatentRgb
from codec_wire.protobuf_envelope import frame_from_message, header_from_message
from codec_wire.request import GenerationRequest
from codec_wire.trace_context import TRACEPARENT_HEADER, current_traceparent

_CHUNK_BYTES = 256 * 1024
"""Number of bytes in one message of an uploaded stream."""


class GrpcClient(LatentClient):
    """Async client of a gRPC server.

    Args:
        address: The server's address, HOST:PORT.
        tls: Whether to encrypt the connection. The default of `tls` is False.
        ca_file: PEM file with the certificate authority of the server. If `ca_file` is given, the connection is
            encrypted. By default, the system's certificate authorities are used.
        cert_file: PEM file with the client's certificate, for a server that requires a client certificate. If
            `cert_file` is given, the connection is encrypted.
        key_file: PEM file with the private key of the client's certificate.
        **options: Keyword arguments of LatentClient: api_key, timeout_s, retries, pinned_map and cache_dir.

    Raises:
        InvalidSettings: a PEM file cannot be read, or `api_key` contains characters that cannot be sent.

    """

    def __init__(
        self,
        address: str,
        *,
        tls: bool = False,
        ca_file: str | os.PathLike[str] | None = None,
        cert_file: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.address = address
        self._authorization = None if self.api_key is None else bearer(self.api_key)
        credentials = channel_credentials(tls=tls, ca_file=ca_file, cert_file=cert_file, key_file=key_file)
        self._connection = GrpcConnection(address, credentials, self.timeout_s)

    async def latent_map(self, digest: str | None = None) -> LatentMapBundle:
        """Return a latent-space map of the server. See LatentClient.latent_map."""
        bundle = None if digest is None else load_bundle(self.cache, digest)
        if bundle is None:
            response = await self._get_map(None if digest is None else await self._find_latent_space(digest))
            bundle = LatentMapBundle.from_parts(response.document, response.assets)
            store_bundle(bundle, self.cache)
        if digest not in (None, bundle.hash):
            raise InvalidMap(f"{self.address} returned the latent-space map {bundle.hash}, expected {digest}")
        return bundle

    async def latent_rgb(self, latent_space: str | None = None) -> LatentRgb:
        """Return the matrix that converts latents to approximate RGB values. See LatentClient.latent_rgb."""
        response = await self._get_map(latent_space)
        if not response.HasField("latent_rgb"):
            requested = latent_space or "its default model"
            raise NotFound("latent_space", f"{self.address} has no latent-to-RGB matrix for {requested}")
        return LatentRgb.parse(response.latent_rgb)

    async def _get_map(self, latent_space: str | None) -> pb.GetLatentMapResponse:
        try:
            return await self._connection.stub.GetLatentMap(
                pb.GetLatentMapRequest(latent_space=latent_space),
                timeout=self.timeout_s,
                metadata=self._metadata(pinned=False),
            )
        except grpc.aio.AioRpcError as error:
            raise self._connection.to_codec_error(error) from None

    async def _find_latent_space(self, digest: str) -> str:
        """Return the latent space of the served model whose map has the hash `digest`.

        Raises InvalidMap if the server does not serve a model whose map has the hash `digest`.
        """
        models = await self.models()
        for model in models:
            if model.map_hash == digest:
                return model.latent_space
        listed = ", ".join(f"{model.latent_space} {model.map_hash}" for model in models) or "none"
        raise InvalidMap(f"{self.address} has no latent-space map {digest}; available: {listed}")

    async def models(self) -> list[ServedModel]:
        """Return the models that the server serves. See LatentClient.models."""
        try:
            response = await self._connection.stub.GetServerInfo(
                pb.GetServerInfoRequest(), timeout=self.timeout_s, metadata=self._metadata(pinned=False)
            )
        except grpc.aio.AioRpcError as error:
            raise self._connection.to_codec_error(error) from None
        names = {number: modality for modality, number in MODALITIES.items()}
        return [
            ServedModel(
                name=served.model.name,
                aliases=tuple(served.model.aliases),
                modalities=tuple(names[number] for number in served.model.modalities if number in names)
                if served.generates or not served.HasField("generates")
                else (),
                latent_space=served.model.latent_space,
                map_hash=served.latent_map_hash,
            )
            for served in response.models
        ]

    async def close(self) -> None:
        """Close the connection and cancel the requests that are still running."""
        await self._connection.close()

    async def _events(
        self, request: GenerationRequest, response: ResponseState, timeout_s: float
    ) -> AsyncGenerator[StreamEvent, None]:
        call = self._connection.stub.Generate(
            message_of(request), timeout=max(timeout_s, 0.0), metadata=self._metadata(pinned=True)
        )
        async with aclosing(self._messages(call, response)) as messages:
            async for message in messages:
                event = event_from_message(message)
                if event is not None:
                    yield event

    async def _encoded_events(
        self, request: EncodingRequest, response: ResponseState, timeout_s: float
    ) -> AsyncGenerator[StreamEvent, None]:
        message = pb.EncodeRequest(
            file=request.file,
            model=request.model,
            latent_space=request.latent_space,
            pipeline=request.pipeline,
            size=None if request.size is None else pb.PixelSize(width=request.size[0], height=request.size[1]),
            keyframe_interval=request.keyframe_interval,
            seed=request.seed,
        )
        call = self._connection.stub.Encode(message, timeout=max(timeout_s, 0.0), metadata=self._metadata(pinned=True))
        async with aclosing(self._messages(call, response)) as messages:
            async for message in messages:
                kind = message.WhichOneof("event")
                if kind == "header":
                    yield Started(header_from_message(message.header))
                elif kind == "frame":
                    yield Frame(frame_from_message(message.frame))

    async def _decoded_pixels(
        self, request: DecodingRequest, response: ResponseState, timeout_s: float
    ) -> ReceivedPixels:
        call = self._connection.stub.Decode(
            _decode_messages(request), timeout=max(timeout_s, 0.0), metadata=self._metadata(pinned=True)
        )
        pixels = ReceivedPixels()
        async with aclosing(self._messages(call, response)) as messages:
            async for message in messages:
                if message.WhichOneof("event") == "data":
                    pixels.add(message.data)
                    continue
                size = message.size
                if request.is_image_file and size.HasField("fps"):
                    raise NotAcceptable(f"a video cannot be decoded to one {request.pixel_format} file; use mp4")
                if request.pixel_format == RGB:
                    pixels.shape = (size.num_frames, size.height, size.width, 3)
        return pixels

    async def _messages(self, call: Any, response: ResponseState) -> AsyncGenerator[Any, None]:
        """Yield the messages of a call.

        The metadata of the call and the sizes of the received messages are recorded in `response`.
        """

        def record_metadata(metadata: Mapping[str, Any]) -> None:
            response.parameters = parse_parameters(metadata.get(PARAMETERS_KEY))
            if MAP_HASH_KEY in metadata:  # missing if the server rejected the call
                response.record_map_hash(str(metadata[MAP_HASH_KEY]), self.pinned_map)

        async with aclosing(self._connection.messages(call, record_metadata)) as messages:
            async for message in messages:
                response.started = True
                response.received_bytes += message.ByteSize()
                yield message

    def _metadata(self, *, pinned: bool) -> list[tuple[str, str]]:
        metadata = []
        if self._authorization is not None:
            metadata.append(("authorization", self._authorization))
        if pinned and self.pinned_map is not None:
            metadata.append((MAP_PIN_KEY, self.pinned_map))
        if (traceparent := current_traceparent()) is not None:
            metadata.append((TRACEPARENT_HEADER, traceparent))
        return metadata


def message_of(request: GenerationRequest) -> pb.GenerateRequest:
    """Return the protobuf message for `request`. The message asks the server to report the progress of the steps.

    If a field of `request` does not exist in the message, raises InvalidRequest with the name of the field.
    """
    values = explicit_fields(request) | {"modality": MODALITIES[request.modality]}
    if request.size is not None:
        width, height = request.size
        values["size"] = pb.PixelSize(width=width, height=height)
    if request.loras:
        values["loras"] = [pb.RequestLora(name=lora.name, scale=lora.scale) for lora in request.loras]
    for name in values:
        if name not in pb.GenerateRequest.DESCRIPTOR.fields_by_name:
            raise InvalidRequest(name, "is not supported over gRPC")
    return pb.GenerateRequest(**values, progress=True)


def _decode_messages(request: DecodingRequest) -> Iterator[pb.DecodeRequest]:
    """Yield request messages that together contain the latent stream of `request`.

    The first message also contains the options of `request`.
    """
    options = pb.DecodeOptions(
        model=request.model,
        format=pb.PixelFormat.Value(f"PIXEL_FORMAT_{request.pixel_format.upper()}"),
        quality=request.quality,
        content_encoding=request.encoding,
    )
    yield pb.DecodeRequest(body=request.body[:_CHUNK_BYTES], options=options)
    for start in range(_CHUNK_BYTES, len(request.body), _CHUNK_BYTES):
        yield pb.DecodeRequest(body=request.body[start : start + _CHUNK_BYTES])
