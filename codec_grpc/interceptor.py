"""Server interceptor that converts exceptions to gRPC statuses and logs every call when it ends."""

from __future__ import annotations  # RpcMethodHandler is generic only in the type stubs

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc import StatusCode
from grpc.aio import AbortError, ServerInterceptor

from codec_grpc.errors import status_code, to_status
from codec_wire.errors import CodecError, InvalidRequest
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb

log = logging.getLogger(__name__)

METHOD_PREFIX = f"/{pb.DESCRIPTOR.services_by_name['LatentService'].full_name}/"

Handler = Callable[[Any, Any], Awaitable[Any]]


class ErrorBoundary(ServerInterceptor):
    """Interceptor that converts exceptions to gRPC statuses. Clients receive only the messages of CodecErrors."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handlers of LatentService. Health and reflection keep their default error handling."""
        handler: Any = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(METHOD_PREFIX):
            return handler  # type: ignore[no-any-return]
        make = (
            grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
        )
        behaviour = handler.unary_stream if handler.response_streaming else handler.unary_unary
        wrapped: grpc.RpcMethodHandler[Any, Any] = make(
            _with_error_status(behaviour, method.removeprefix(METHOD_PREFIX)),
            request_deserializer=_parse_or_invalid(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )
        return wrapped


def _parse_or_invalid(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return a deserializer that returns InvalidRequest for bytes that `parse` rejects.

    An exception in a deserializer would reach the client as UNKNOWN, with the name of a Python class.
    """

    def deserialize(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            return InvalidRequest("request", f"is not a valid protobuf message ({len(data)} bytes)")

    return deserialize


def _with_error_status(behaviour: Handler, method: str) -> Handler:
    async def wrapped(request: Any, context: Any) -> Any:
        started = time.perf_counter()
        outcome = StatusCode.OK.name
        try:
            if isinstance(request, InvalidRequest):
                raise request
            return await behaviour(request, context)
        except asyncio.CancelledError:
            outcome = StatusCode.CANCELLED.name
            raise
        except AbortError:
            raise
        except Exception as error:
            code = status_code(error)
            outcome = f"{code.name} ({error})"
            if not isinstance(error, CodecError):  # the line below contains the message of a CodecError
                log.exception("%s failed", method)
            status = to_status(error)
            await context.abort(status.code, status.details, status.trailing_metadata)
        finally:
            log.info("gRPC %s %s %.3f s", method, outcome, time.perf_counter() - started)

    return wrapped
