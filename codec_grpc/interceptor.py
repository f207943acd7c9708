"""Server interceptor that wraps every method with checks, limits, error handling and telemetry."""

from __future__ import annotations  # RpcMethodHandler is generic only in the type stubs

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc.aio import ServerInterceptor

from codec_grpc.auxiliary_methods import AuxiliaryMethods
from codec_grpc.receptions import Receptions
from codec_grpc.service_method import PUBLIC_METHODS, ServiceMethod
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from core.api_keys import ApiKeys
from core.request_record import current_record
from core.service import LatentService

METHOD_PREFIX = f"/{pb.DESCRIPTOR.services_by_name['LatentService'].full_name}/"


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
        self._job_receptions = Receptions(service.admission.memory)
        self._other_receptions = Receptions(None, prefers_new=True)
        self._refused_receptions = Receptions(None)
        self._auxiliary = AuxiliaryMethods(self._other_receptions)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the wrapped handler of the called gRPC method, or None if the method does not exist.

        The handlers of health checks and reflection are wrapped only to limit their calls and messages.
        """
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        known = self._wrapped.get(method)
        if known is None or known[0] is not handler:
            known = self._wrapped[method] = handler, self._wrap(handler, method)
        return known[1]

    def _wrap(self, handler: Any, method: str) -> grpc.RpcMethodHandler[Any, Any]:
        """Return a handler that receives and parses its messages with codec_grpc.received_messages."""
        kind = f"{_KINDS[handler.request_streaming]}_{_KINDS[handler.response_streaming]}"
        behaviour, serializer = getattr(handler, kind), handler.response_serializer
        make: Callable[..., Any] = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        if method.startswith(METHOD_PREFIX):
            name = method.removeprefix(METHOD_PREFIX)
            behaviour = ServiceMethod(
                name,
                behaviour,
                handler.request_deserializer,
                streams=handler.request_streaming,
                service=self._service,
                api_keys=self._api_keys,
                receptions=self._other_receptions if name in PUBLIC_METHODS else self._job_receptions,
                refused_receptions=self._refused_receptions,
            ).call
            serializer = _counted(serializer) if handler.response_streaming else serializer
        else:
            behaviour = self._auxiliary.wrap(
                behaviour, handler.request_deserializer, streams=handler.response_streaming
            )
        wrapped: grpc.RpcMethodHandler[Any, Any] = make(behaviour, response_serializer=serializer)
        return wrapped


_KINDS = {False: "unary", True: "stream"}
"""Words in the names of the handler attributes of gRPC, keyed by whether the client or the server streams."""


def _counted(serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Return a serializer that calls `serialize` and adds the size of each message to the record of the call.

    A message of type bytes is already serialized.

    gRPC runs the serializer in the task of the call, so the function current_record returns the record of the call.
    """

    def serialize_and_count(message: Any) -> bytes:
        data = message if isinstance(message, bytes) else serialize(message)
        current_record().bytes_out += len(data)
        return data

    return serialize_and_count
