"""The gRPC methods of LatentService."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from codec_grpc.call import Call, job_deadline, send_messages
from codec_grpc.decode_call import decode
from codec_grpc.discovery import latent_map, server_info
from codec_grpc.encode_call import encode
from codec_grpc.generate_call import generate, serialized_response
from codec_wire.errors import InvalidRequest, truncated_repr
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceServicer
from core.engine import Job
from core.request_record import current_record
from core.service import LatentService

COMPRESSION_KEY = "codec-compression"
"""Request metadata key that selects the compression of response messages.

Without the key `codec-compression`, a handler could not detect whether a client wants compression. A handler cannot
read how the request message was compressed. Every client accepts gzip, even if the client does not want compression.
"""

COMPRESSIONS = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
"""The compression algorithms of gRPC by name. gRPC compresses every message separately."""

Context = grpc.aio.ServicerContext[Any, Any]


class LatentServicer(LatentServiceServicer):
    """Implementation of LatentService.

    If a method raises a CodecError, ServiceMethod converts the error to a gRPC status.
    """

    def __init__(self, service: LatentService, request_timeout_s: float) -> None:
        self._service = service
        self._request_timeout_s = request_timeout_s

    async def Generate(  # type: ignore[override]  # noqa: N802 - the name is defined by the schema
        self, request: pb.GenerateRequest, context: Context
    ) -> None:
        """Stream one generation.

        After the client's deadline or a cancellation, the generation stops within one sampling step.
        """
        call = Call(context)
        compression = _compression(call.received(COMPRESSION_KEY))
        if compression is not None:
            context.set_compression(compression)
            current_record().coding = compression.name.lower()
        job = self._job(context, reports_steps=request.progress)
        messages = generate(self._service, request, call, job, serialized_response)
        del request  # its memory is free as soon as `generate` no longer needs it
        await send_messages(messages, call, context, job)

    async def Decode(  # type: ignore[override]  # noqa: N802
        self, request_iterator: AsyncIterator[pb.DecodeRequest], context: Context
    ) -> None:
        """Decode a latent stream to pixels. A cancelled call ends as soon as the current frame has been decoded."""
        call, job = Call(context), self._job(context)
        await send_messages(decode(self._service, request_iterator, call, job), call, context, job)

    async def Encode(  # type: ignore[override]  # noqa: N802
        self, request: pb.EncodeRequest, context: Context
    ) -> None:
        """Encode an image or a video to a latent stream."""
        call, job = Call(context), self._job(context)
        messages = encode(self._service, request, call, job)
        del request  # its memory is free as soon as `encode` no longer needs it
        await send_messages(messages, call, context, job)

    async def GetServerInfo(  # noqa: N802
        self, request: pb.GetServerInfoRequest, context: Context
    ) -> pb.GetServerInfoResponse:
        """Return the state, models and software versions of the server, even while the server is loading models."""
        return server_info(self._service)

    async def GetLatentMap(  # noqa: N802
        self, request: pb.GetLatentMapRequest, context: Context
    ) -> pb.GetLatentMapResponse:
        """Return a latent-space map and the files to which the map refers."""
        return latent_map(self._service, request)

    def _job(self, context: Context, *, reports_steps: bool = False) -> Job:
        deadline = job_deadline(self._request_timeout_s, context.time_remaining())
        return Job(deadline, reports_steps=reports_steps)


def _compression(name: str | None) -> grpc.Compression | None:
    """Return the compression algorithm named `name`, or None for "identity" and for a missing name.

    Raises InvalidRequest if the name is unknown.
    """
    if name is None or name == "identity":
        return None
    compression = COMPRESSIONS.get(name)
    if compression is None:
        raise InvalidRequest(
            COMPRESSION_KEY, f"must be one of identity, {', '.join(COMPRESSIONS)}, got {truncated_repr(name)}"
        )
    return compression
