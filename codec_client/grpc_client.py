"""gRPC client."""

import asyncio
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc.aio
from grpc import StatusCode

from codec_client.client import LatentClient, explicit_fields
from codec_client.errors import ServerUnreachable, UnexpectedAnswer
from codec_client.maps import load_bundle, store_bundle
from codec_client.results import ServedModel
from codec_client.stream import ResponseState
from codec_client.tls import require_pair
from codec_wire.errors import Cancelled, CodecError, DeadlineExceeded, InvalidMap, InvalidRequest, InvalidSettings
from codec_wire.events import StreamEvent
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceStub
from codec_wire.grpc import (
    CHANNEL_OPTIONS,
    MAP_HASH_KEY,
    MAP_PIN_KEY,
    MODALITIES,
    error_from_status,
    event_from_message,
)
from codec_wire.maps import LatentMapBundle
from codec_wire.request import GenerationRequest

if TYPE_CHECKING:  # the asyncio stub class exists only for the type checker
    from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceAsyncStub


class GrpcClient(LatentClient):
    """Async client of a gRPC server.

    Args:
        address: The server's address, HOST:PORT.
        tls: Whether to encrypt the connection. Default: False.
        ca_file: PEM file with the certificate authority of the server; implies `tls`. Default: the system's
            certificate authorities.
        cert_file: PEM file with the client's certificate, for a server that requires one; implies `tls`. `key_file` is
            the PEM file with its private key.
        **options: Keyword arguments of LatentClient: api_key, timeout_s, retries, pinned_map and cache_dir.

    Raises:
        InvalidSettings: a PEM file cannot be read.

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
        self._credentials: grpc.ChannelCredentials | None = None
        require_pair(cert_file, key_file)
        if tls or ca_file is not None or cert_file is not None:
            self._credentials = grpc.ssl_channel_credentials(
                _read_pem("ca_file", ca_file), _read_pem("key_file", key_file), _read_pem("cert_file", cert_file)
            )
        self._channel: grpc.aio.Channel | None = None

    async def latent_map(self, digest: str | None = None) -> LatentMapBundle:
        """Return a latent-space map of the server. See LatentClient.latent_map."""
        bundle = None if digest is None else load_bundle(self.cache, digest)
        if bundle is None:
            latent_space = None if digest is None else await self._find_latent_space(digest)
            try:
                response = await self._stub().GetLatentMap(
                    pb.GetLatentMapRequest(latent_space=latent_space),
                    timeout=self.timeout_s,
                    metadata=self._metadata(pinned=False),
                )
            except grpc.aio.AioRpcError as error:
                raise self._to_codec_error(error) from None
            bundle = LatentMapBundle.from_parts(response.document, response.assets)
            store_bundle(bundle, self.cache)
        if digest not in (None, bundle.hash):
            raise InvalidMap(f"{self.address} returned the latent-space map {bundle.hash}, expected {digest}")
        return bundle

    async def _find_latent_space(self, digest: str) -> str:
        """Return the latent space of the served model whose map has the hash `digest`."""
        models = await self.models()
        for model in models:
            if model.map_hash == digest:
                return model.latent_space
        listed = ", ".join(f"{model.latent_space} {model.map_hash}" for model in models) or "none"
        raise InvalidMap(f"{self.address} has no latent-space map {digest}; it has {listed}")

    async def models(self) -> list[ServedModel]:
        """Return the models that the server serves. See LatentClient.models."""
        try:
            response = await self._stub().GetServerInfo(
                pb.GetServerInfoRequest(), timeout=self.timeout_s, metadata=self._metadata(pinned=False)
            )
        except grpc.aio.AioRpcError as error:
            raise self._to_codec_error(error) from None
        names = {number: modality for modality, number in MODALITIES.items()}
        return [
            ServedModel(
                name=served.model.name,
                aliases=tuple(served.model.aliases),
                modalities=tuple(names[number] for number in served.model.modalities if number in names),
                latent_space=served.model.latent_space,
                map_hash=served.latent_map_hash,
            )
            for served in response.models
        ]

    async def close(self) -> None:
        """Close the connection and cancel the generations that still run over it."""
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    async def _events(
        self, request: GenerationRequest, response: ResponseState, timeout_s: float
    ) -> AsyncGenerator[StreamEvent, None]:
        call = self._stub().Generate(
            message_of(request), timeout=max(timeout_s, 0.0), metadata=self._metadata(pinned=True)
        )
        try:
            metadata = dict(await call.initial_metadata() or ())
            if MAP_HASH_KEY in metadata:  # missing if the server rejected the call
                self._record_map_hash(response, str(metadata[MAP_HASH_KEY]))
            async for message in call:
                response.started = True
                response.received_bytes += message.ByteSize()
                event = event_from_message(message)
                if event is not None:
                    yield event
        except grpc.aio.AioRpcError as error:
            raise self._to_codec_error(error) from None
        except asyncio.CancelledError:
            # grpc.aio raises CancelledError both if this task is cancelled and if the call is (the client was closed).
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Cancelled("the client was closed") from None
        finally:
            call.cancel()

    def _stub(self) -> "LatentServiceAsyncStub":
        if self._channel is None:
            self._channel = (
                grpc.aio.secure_channel(self.address, self._credentials, CHANNEL_OPTIONS)
                if self._credentials is not None
                else grpc.aio.insecure_channel(self.address, CHANNEL_OPTIONS)
            )
        return LatentServiceStub(self._channel)

    def _metadata(self, *, pinned: bool) -> list[tuple[str, str]]:
        metadata = []
        if self.api_key is not None:
            metadata.append(("authorization", f"Bearer {self.api_key}"))
        if pinned and self.pinned_map is not None:
            metadata.append((MAP_PIN_KEY, self.pinned_map))
        return metadata

    def _to_codec_error(self, error: grpc.aio.AioRpcError) -> CodecError:
        """Return the error that the server reported, or one that matches the call's status."""
        code, details = error.code(), error.details() or ""
        reported = error_from_status(error.trailing_metadata() or (), code.value[0], details)
        if reported is not None:
            return reported
        if code is StatusCode.UNAVAILABLE:
            return self._unavailable(details)
        if code is StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(f"the generation did not finish within {self.timeout_s:g} s")
        if code is StatusCode.CANCELLED:
            return Cancelled("the call was cancelled")
        if code is StatusCode.INTERNAL:
            return CodecError(details)
        return UnexpectedAnswer(f"{self.address} returned the gRPC status {code.name}: {details}")

    def _unavailable(self, details: str) -> CodecError:
        if "Failed parsing HTTP/2" in details:
            return UnexpectedAnswer(f"{self.address} is not a gRPC server; is it the HTTP port?")
        return ServerUnreachable(f"cannot connect to {self.address}: {_last_reason(details)}")


def _read_pem(name: str, path: str | os.PathLike[str] | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidSettings(f"cannot read {name} {os.fspath(path)}: {error.strerror}") from None


def message_of(request: GenerationRequest) -> pb.GenerateRequest:
    """Return the protobuf message for `request`, with step progress enabled.

    Raises InvalidRequest if the message has no field for one of the request's fields.
    """
    values = explicit_fields(request) | {"modality": MODALITIES[request.modality]}
    if request.size is not None:
        width, height = request.size
        values["size"] = pb.PixelSize(width=width, height=height)
    for name in values:
        if name not in pb.GenerateRequest.DESCRIPTOR.fields_by_name:
            raise InvalidRequest(name, "is not supported over gRPC")
    return pb.GenerateRequest(**values, progress=True)


def _last_reason(details: str) -> str:
    """Return the last reason in gRPC's chain of connection errors, for example "Connection refused"."""
    return details.rpartition("; last error: ")[2].rpartition(": ")[2].strip(" )") or "the connection failed"
