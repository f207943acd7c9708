"""A client over gRPC."""

import asyncio
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc.aio
from grpc import StatusCode

from codec_client.client import LatentClient, values_of
from codec_client.errors import ServerUnreachable, UnexpectedAnswer
from codec_client.maps import keep, kept
from codec_client.results import ServedModel
from codec_client.stream import Arrival
from codec_wire.errors import Cancelled, CodecError, DeadlineExceeded, InvalidMap, InvalidRequest, InvalidSettings
from codec_wire.events import StreamEvent
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceStub
from codec_wire.grpc import CHANNEL_OPTIONS, MAP_HASH_KEY, MAP_PIN_KEY, MODALITIES, error_in, event_of
from codec_wire.maps import LatentMapBundle
from codec_wire.request import GenerationRequest

if TYPE_CHECKING:  # the stub of an asyncio channel exists for the type checker alone
    from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceAsyncStub


class GrpcClient(LatentClient):
    """A client of the gRPC server at `address` (HOST:PORT). See LatentClient.

    `tls` whether the connection is encrypted; `ca_file` is a PEM file with the server's certificate authority, the
    system's for None, and turns `tls` on.
    """

    def __init__(
        self, address: str, *, tls: bool = False, ca_file: str | os.PathLike[str] | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.address = address
        self._tls = tls or ca_file is not None
        self._authority: bytes | None = None
        if ca_file is not None:
            try:
                self._authority = Path(ca_file).read_bytes()
            except OSError as error:
                raise InvalidSettings(f"{os.fspath(ca_file)} cannot be read: {error.strerror}") from None
        self._channel: grpc.aio.Channel | None = None

    async def latent_map(self, digest: str | None = None) -> LatentMapBundle:
        """Return the server's latent-space map. See LatentClient."""
        found = None if digest is None else kept(self.cache, digest)
        if found is None:
            latent_space = None if digest is None else await self._space_of(digest)
            try:
                answer = await self._stub().GetLatentMap(
                    pb.GetLatentMapRequest(latent_space=latent_space),
                    timeout=self.timeout_s,
                    metadata=self._metadata(pinned=False),
                )
            except grpc.aio.AioRpcError as error:
                raise self._said(error) from None
            found = LatentMapBundle.from_parts(answer.document, answer.assets)
            keep(found, self.cache)
        if digest not in (None, found.hash):
            raise InvalidMap(f"{self.address} has the latent-space map {found.hash}, wanted is {digest}")
        return found

    async def _space_of(self, digest: str) -> str:
        models = await self.models()
        for model in models:
            if model.map_hash == digest:
                return model.latent_space
        listed = ", ".join(f"{model.latent_space} {model.map_hash}" for model in models) or "none"
        raise InvalidMap(f"{self.address} has no latent-space map {digest}; it has {listed}")

    async def models(self) -> list[ServedModel]:
        """Return the models that the server runs. See LatentClient."""
        try:
            answer = await self._stub().GetServerInfo(
                pb.GetServerInfoRequest(), timeout=self.timeout_s, metadata=self._metadata(pinned=False)
            )
        except grpc.aio.AioRpcError as error:
            raise self._said(error) from None
        names = {number: modality for modality, number in MODALITIES.items()}
        return [
            ServedModel(
                name=served.model.name,
                aliases=tuple(served.model.aliases),
                modalities=tuple(names[number] for number in served.model.modalities if number in names),
                latent_space=served.model.latent_space,
                map_hash=served.latent_map_hash,
            )
            for served in answer.models
        ]

    async def close(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    async def _events(
        self, request: GenerationRequest, arrival: Arrival, seconds: float
    ) -> AsyncGenerator[StreamEvent, None]:
        call = self._stub().Generate(
            message_of(request), timeout=max(seconds, 0.0), metadata=self._metadata(pinned=True)
        )
        try:
            metadata = dict(await call.initial_metadata() or ())
            if MAP_HASH_KEY in metadata:  # a call that is refused may have none
                self._is_of_map(arrival, str(metadata[MAP_HASH_KEY]))
            async for message in call:
                arrival.answered = True
                arrival.received_bytes += message.ByteSize()
                event = event_of(message)
                if event is not None:
                    yield event
        except grpc.aio.AioRpcError as error:
            raise self._said(error) from None
        except asyncio.CancelledError:
            # A call that is cancelled ends like a task that is: only the task's own cancelling is for the caller.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Cancelled("the client was closed") from None
        finally:
            call.cancel()

    def _stub(self) -> "LatentServiceAsyncStub":
        if self._channel is None:
            self._channel = (
                grpc.aio.secure_channel(self.address, grpc.ssl_channel_credentials(self._authority), CHANNEL_OPTIONS)
                if self._tls
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

    def _said(self, error: grpc.aio.AioRpcError) -> CodecError:
        """Return the error that a call's status says, as the server said it."""
        code, details = error.code(), error.details() or ""
        said = error_in(error.trailing_metadata() or (), code.value[0], details)
        if said is not None:
            return said
        if code is StatusCode.UNAVAILABLE:
            return self._unavailable(details)
        if code is StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(f"there was no whole answer within {self.timeout_s:g} s")
        if code is StatusCode.CANCELLED:
            return Cancelled("the call was cancelled")
        if code is StatusCode.INTERNAL:
            return CodecError(details)
        return UnexpectedAnswer(f"{self.address} answers {code.name}: {details}")

    def _unavailable(self, details: str) -> CodecError:
        if "Failed parsing HTTP/2" in details:
            return UnexpectedAnswer(f"what answers at {self.address} is no gRPC server; is it the HTTP port?")
        return ServerUnreachable(f"no server answers at {self.address}: {_reason(details)}")


def message_of(request: GenerationRequest) -> pb.GenerateRequest:
    """Return the message that asks for `request`, with progress. Raises InvalidRequest for a field it has not."""
    values = values_of(request) | {"modality": MODALITIES[request.modality]}
    if request.size is not None:
        width, height = request.size
        values["size"] = pb.PixelSize(width=width, height=height)
    for name in values:
        if name not in pb.GenerateRequest.DESCRIPTOR.fields_by_name:
            raise InvalidRequest(name, "cannot be sent over gRPC")
    return pb.GenerateRequest(**values, progress=True)


def _reason(details: str) -> str:
    """Return the end of gRPC's chain of reasons, the part that people understand."""
    return details.rpartition("; last error: ")[2].rpartition(": ")[2].strip(" )") or "the connection failed"
