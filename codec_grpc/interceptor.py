"""Server interceptor that converts exceptions to gRPC statuses and logs every call when it ends."""

from __future__ import annotations  # RpcMethodHandler is generic only in the type stubs

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc import StatusCode
from grpc.aio import AbortError, ServerInterceptor

from codec_grpc.errors import status_code, to_status
from codec_wire.errors import CodecError, InvalidRequest
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from core.api_keys import ApiKeys

log = logging.getLogger(__name__)

METHOD_PREFIX = f"/{pb.DESCRIPTOR.services_by_name['LatentService'].full_name}/"

PUBLIC_METHODS = ("GetServerInfo", "GetLatentMap")
"""Methods that require no API key: discovery, as over HTTP."""

Handler = Callable[[Any, Any], Awaitable[Any]]


class ErrorBoundary(ServerInterceptor):
    """Interceptor that checks API keys and converts exceptions to gRPC statuses.

    Clients receive only the messages of CodecErrors. `api_keys` are the accepted keys; None if no key is required.
    """

    def __init__(self, api_keys: ApiKeys | None = None) -> None:
        self._api_keys = api_keys

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
        make, behaviour = _KINDS[handler.request_streaming, handler.response_streaming]
        wrapped: grpc.RpcMethodHandler[Any, Any] = make(
            self._with_error_status(getattr(handler, behaviour), method.removeprefix(METHOD_PREFIX)),
            request_deserializer=_parse_or_invalid(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )
        return wrapped

    def _with_error_status(self, behaviour: Handler, method: str) -> Handler:
        async def wrapped(request: Any, context: Any) -> Any:
            started = time.perf_counter()
            outcome, key = StatusCode.OK.name, ""
            try:
                if self._api_keys is not None and method not in PUBLIC_METHODS:
                    authorization = dict(context.invocation_metadata() or ()).get("authorization")
                    key = f" key {self._api_keys.authenticate(authorization)}"
                return await behaviour(_checked(request), context)
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
                log.info("gRPC %s %s %.3f s%s", method, outcome, time.perf_counter() - started, key)

        return wrapped


_KINDS: dict[tuple[bool, bool], tuple[Callable[..., Any], str]] = {
    (False, False): (grpc.unary_unary_rpc_method_handler, "unary_unary"),
    (False, True): (grpc.unary_stream_rpc_method_handler, "unary_stream"),
    (True, False): (grpc.stream_unary_rpc_method_handler, "stream_unary"),
    (True, True): (grpc.stream_stream_rpc_method_handler, "stream_stream"),
}
"""Constructor of a handler, and its attribute with the method, by whether requests and responses are streams."""


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


def _checked(request: Any) -> Any:
    """Return `request`, a message or an iterator of messages. Raises the error of a message that cannot be parsed."""
    if isinstance(request, InvalidRequest):
        raise request
    return _checked_messages(request) if isinstance(request, AsyncIterator) else request


async def _checked_messages(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _checked(request)
