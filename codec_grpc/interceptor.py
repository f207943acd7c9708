"""Server interceptor that converts exceptions to gRPC statuses and logs every call when it ends."""

from __future__ import annotations  # RpcMethodHandler is generic only in the type stubs

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc import StatusCode
from grpc.aio import AbortError, InternalError, ServerInterceptor

from codec_grpc.call import peer_address, trailing_metadata
from codec_grpc.errors import status_code, to_status
from codec_grpc.malformed_requests import checked, parse_or_invalid, refuse_malformed
from codec_grpc.receptions import Receptions, ends_if_small, ends_with_call, reception_of_call
from codec_wire.codings import IDENTITY
from codec_wire.errors import CodecError, RetryableError
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.grpc import REQUEST_ID_KEY, RETRY_AFTER_KEY, RETRY_PUSHBACK_KEY
from codec_wire.trace_context import TRACEPARENT_HEADER
from core.api_keys import ApiKeys
from core.engine import client_disconnected, deadline_exceeded
from core.request_record import current_record
from core.service import LatentService

log = logging.getLogger(__name__)

METHOD_PREFIX = f"/{pb.DESCRIPTOR.services_by_name['LatentService'].full_name}/"

PUBLIC_METHODS = ("GetServerInfo", "GetLatentMap")
"""Names of the discovery methods, which require no API key.

Neither the gRPC server nor the HTTP server requires an API key for discovery.
"""

Handler = Callable[[Any, Any], Awaitable[Any]]


class ErrorBoundary(ServerInterceptor):
    """Interceptor that checks API keys and admission, and converts exceptions to gRPC statuses.

    Clients receive the message of a CodecError, but never the message of any other exception. `api_keys` are the
    accepted keys, or None if no key is required.
    """

    def __init__(self, service: LatentService, api_keys: ApiKeys | None = None) -> None:
        self._service = service
        self._api_keys = api_keys
        self._wrapped: dict[str, tuple[object, grpc.RpcMethodHandler[Any, Any]]] = {}
        """Dictionary of tuples with the original handler and the wrapped handler of a gRPC method, by method name."""
        self._receptions = Receptions()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the wrapped handler of the called gRPC method, or None if the method does not exist.

        The handlers of health checks and reflection are wrapped only to refuse malformed messages.
        """
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        known = self._wrapped.get(method)
        if known is None or known[0] is not handler:
            known = self._wrapped[method] = handler, self._wrap(handler, method)
        if method.startswith(METHOD_PREFIX) and not handler.request_streaming:
            reception_of_call.set(await self._receptions.begin())  # gRPC receives the message afterwards
        return known[1]

    def _wrap(self, handler: Any, method: str) -> grpc.RpcMethodHandler[Any, Any]:
        make, kind = _KINDS[handler.request_streaming, handler.response_streaming]
        behaviour, serializer = getattr(handler, kind), handler.response_serializer
        deserializer = parse_or_invalid(handler.request_deserializer)
        if method.startswith(METHOD_PREFIX):
            behaviour = self._with_error_status(behaviour, method.removeprefix(METHOD_PREFIX))
            serializer = _counted(serializer) if handler.response_streaming else serializer
            if not handler.request_streaming:
                deserializer = ends_if_small(deserializer)
                behaviour = ends_with_call(behaviour)
        else:
            behaviour = refuse_malformed(behaviour)
        wrapped: grpc.RpcMethodHandler[Any, Any] = make(
            behaviour,
            request_deserializer=deserializer,
            response_serializer=serializer,
        )
        return wrapped

    def _with_error_status(self, behaviour: Handler, method: str) -> Handler:
        operation = None if method in PUBLIC_METHODS else method.lower()

        async def wrapped(request: Any, context: Any) -> Any:
            metadata = dict(context.invocation_metadata() or ())
            record = self._service.telemetry.begin(
                "grpc",
                method,
                operation,
                request_id=_text(metadata.get(REQUEST_ID_KEY)),
                traceparent=_text(metadata.get(TRACEPARENT_HEADER)),
            )
            record.coding = IDENTITY
            record.peer = peer_address(context.peer())
            record.status = StatusCode.OK.name
            try:
                if self._api_keys is not None and method not in PUBLIC_METHODS:
                    record.key_name = self._api_keys.authenticate(metadata.get("authorization"))
                if operation is not None:
                    await self._service.require_place(record.client)
                response = await behaviour(checked(request), context)
                if response is not None:
                    record.bytes_out += response.ByteSize()
                context.set_trailing_metadata(trailing_metadata(record))
            except (asyncio.CancelledError, InternalError):
                # InternalError: a message could not be sent. grpc.aio raises it instead of CancelledError if the client
                # disconnects while the message waits for the client to read.
                remaining = context.time_remaining()
                is_late = remaining is not None and remaining <= 0
                error: CodecError = deadline_exceeded() if is_late else client_disconnected()
                record.status = status_code(error).name
                record.fail(error)
                raise asyncio.CancelledError from None  # grpc.aio would log the traceback of an InternalError
            except AbortError:
                raise
            except Exception as error:
                record.fail(error)
                if not isinstance(error, CodecError):  # the log line contains the message of a CodecError
                    log.exception("%s failed", method)
                status = to_status(error)
                record.status = status.code.name
                # Not context.abort(): grpc.aio stores the exception that context.abort() raises. The exception would
                # keep this frame, and thus the request with its images, in memory until the next garbage collection.
                context.set_code(status.code)
                context.set_details(status.details)
                context.set_trailing_metadata(
                    (*status.trailing_metadata, *trailing_metadata(record), *_retry_metadata(error))
                )
                return None
            else:
                return response
            finally:
                self._service.telemetry.end(record)

        return wrapped


_KINDS: dict[tuple[bool, bool], tuple[Callable[..., Any], str]] = {
    (False, False): (grpc.unary_unary_rpc_method_handler, "unary_unary"),
    (False, True): (grpc.unary_stream_rpc_method_handler, "unary_stream"),
    (True, False): (grpc.stream_unary_rpc_method_handler, "stream_unary"),
    (True, True): (grpc.stream_stream_rpc_method_handler, "stream_stream"),
}
"""Dictionary of the handler constructors and handler attributes of gRPC, keyed by the kind of gRPC method.

Each value of this dictionary contains the constructor of a handler, and the name of the handler attribute that holds
the method. Each key of this dictionary is a pair of Booleans: whether the client streams, and whether the server
streams.
"""


def _text(value: str | bytes | None) -> str | None:
    return value if isinstance(value, str) else None


def _retry_metadata(error: Exception) -> tuple[tuple[str, str], ...]:
    """Return metadata with the time that a client must wait before it retries the call.

    The time is sent both as metadata and in google.rpc.RetryInfo, because gRPC's retry policies (gRFC A6) and proxies
    read only the metadata.
    """
    if not isinstance(error, RetryableError):
        return ()
    return ((RETRY_PUSHBACK_KEY, str(error.retry_after_s * 1000)), (RETRY_AFTER_KEY, str(error.retry_after_s)))


def _counted(serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Return a serializer that calls `serialize` and adds the size of each message to the record of the call.

    gRPC runs the serializer in the task of the call, so the function current_record returns the record of the call.
    """

    def serialize_and_count(message: Any) -> bytes:
        data = serialize(message)
        current_record().bytes_out += len(data)
        return data

    return serialize_and_count
