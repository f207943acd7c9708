"""The gRPC methods of a replica, which the gRPC proxy of Ray Serve calls by name without the server.

The proxy passes a context object that cannot send initial metadata. Therefore, all metadata of a response is sent at
the end of the call. An error has the same code and message as an error of the server, but no google.rpc details.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

from codec_grpc.call import Call, Context, job_deadline, peer_address, trailing_metadata
from codec_grpc.decode_call import decode
from codec_grpc.discovery import latent_map, server_info
from codec_grpc.encode_call import encode
from codec_grpc.errors import status_code, to_status
from codec_grpc.generate_call import generate, response_message
from codec_grpc.received_messages import discard
from codec_wire.codings import IDENTITY
from codec_wire.errors import CodecError
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.grpc import REQUEST_ID_KEY
from codec_wire.trace_context import TRACEPARENT_HEADER
from core.engine import Job, client_disconnected
from core.request_record import RequestRecord
from core.service import LatentService

log = logging.getLogger(__name__)

MessageT = TypeVar("MessageT", bound="Message")


OK_STATUS = "OK"


class Message(Protocol):
    """A protobuf message."""

    def ByteSize(self) -> int:  # noqa: N802 - the name is defined by protobuf
        """Return the size of the message in bytes."""


class ProxyContext(Context, Protocol):
    """The parts of ray.serve.grpc_util.RayServegRPCContext that ProxiedMethods uses.

    The proxy receives the context together with every message. If a call fails, the proxy also receives the status code
    and the details from the context.
    """

    def set_trailing_metadata(self, trailing_metadata: list[tuple[str, str]]) -> None:
        """Set the metadata that is sent at the end of the call."""

    def set_code(self, code: Any) -> None:
        """Set the status code."""

    def set_details(self, details: str) -> None:
        """Set the message of the status."""


class ProxiedMethods:
    """Implementation of LatentService that depends neither on grpc.aio nor on the contexts of grpc.aio.

    The methods are called on the event loop of `service`. If a call is cancelled, Ray closes the stream of the call,
    and the closed stream cancels the job.
    """

    def __init__(self, service: LatentService, request_timeout_s: float) -> None:
        self._service = service
        self._request_timeout_s = request_timeout_s

    async def Generate(  # noqa: N802 - the names are defined by the schema
        self, request: pb.GenerateRequest, grpc_context: ProxyContext
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        """Return the messages of one generation."""

        def messages(call: Call, job: Job) -> AsyncGenerator[pb.GenerateResponse, None]:
            return generate(self._service, request, call, job, response_message)

        return self._stream("Generate", grpc_context, messages, request.progress)

    async def Encode(  # noqa: N802
        self, request: pb.EncodeRequest, grpc_context: ProxyContext
    ) -> AsyncGenerator[pb.EncodeResponse, None]:
        """Return the latent stream of an image or a video."""
        return self._stream("Encode", grpc_context, partial(encode, self._service, request))

    async def Decode(  # noqa: N802
        self, requests: AsyncIterator[pb.DecodeRequest], grpc_context: ProxyContext
    ) -> AsyncGenerator[pb.DecodeResponse, None]:
        """Return the pixels of a latent stream."""
        return self._stream("Decode", grpc_context, partial(_decode, self._service, requests))

    async def GetServerInfo(  # noqa: N802
        self, _request: pb.GetServerInfoRequest, grpc_context: ProxyContext
    ) -> pb.GetServerInfoResponse:
        """Return the state, models and software versions of the replica."""
        with self._reported("GetServerInfo", None, grpc_context):
            return server_info(self._service)

    async def GetLatentMap(  # noqa: N802
        self, request: pb.GetLatentMapRequest, grpc_context: ProxyContext
    ) -> pb.GetLatentMapResponse:
        """Return a latent-space map and the files that the map refers to."""
        with self._reported("GetLatentMap", None, grpc_context):
            return latent_map(self._service, request)

    @contextmanager
    def _reported(self, method: str, operation: str | None, context: ProxyContext) -> Iterator[RequestRecord]:
        """Record a call during the `with` block, and set the status of the call if the block raises an error."""
        call = Call(context)
        request_id, traceparent = call.received(REQUEST_ID_KEY), call.received(TRACEPARENT_HEADER)
        record = self._service.telemetry.begin(
            "grpc", method, operation, request_id=request_id, traceparent=traceparent
        )
        record.coding, record.peer, record.status = IDENTITY, peer_address(context.peer()), OK_STATUS
        context.set_trailing_metadata([*trailing_metadata(record)])
        try:
            yield record
        except (asyncio.CancelledError, GeneratorExit):
            error = client_disconnected()
            record.status = status_code(error).name
            record.fail(error)
            raise
        except Exception as error:
            record.fail(error)
            if not isinstance(error, CodecError):  # the log line contains the message of a CodecError
                log.exception("%s failed", method)
            status = to_status(error)
            record.status = status.code.name
            context.set_code(status.code)
            context.set_details(status.details)
            raise
        finally:
            self._service.telemetry.end(record)

    async def _stream(
        self,
        method: str,
        context: ProxyContext,
        messages: Callable[[Call, Job], AsyncGenerator[MessageT, None]],
        reports_steps: bool = False,
    ) -> AsyncGenerator[MessageT, None]:
        """Yield `messages`, and set the metadata of the response when the first message is yielded."""
        with self._reported(method, method.lower(), context) as record:
            call, job = Call(context), Job(job_deadline(self._request_timeout_s), reports_steps=reports_steps)
            async with aclosing(messages(call, job)) as items:
                async for item in items:
                    metadata = dict(trailing_metadata(record)) | dict(call.response_metadata)
                    context.set_trailing_metadata([*metadata.items()])
                    record.bytes_out += item.ByteSize()
                    yield item


async def _decode(
    service: LatentService, requests: AsyncIterator[pb.DecodeRequest], call: Call, job: Job
) -> AsyncGenerator[pb.DecodeResponse, None]:
    """Yield the messages of one call of Decode. If the call fails, receive the rest of the request."""
    try:
        async with aclosing(decode(service, requests, call, job)) as messages:
            async for message in messages:
                yield message
    except CodecError:
        await discard(requests)
        raise
