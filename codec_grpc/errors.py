"""Conversion between errors and gRPC statuses, for the server and for a gateway."""

import logging
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import StatusCode
from grpc.aio import AioRpcError
from grpc_status import rpc_status

from codec_wire import errors
from codec_wire.errors import INTERNAL_TEXT, CodecError
from codec_wire.grpc import ERROR_DOMAIN, RETRY_AFTER_KEY, RETRY_PUSHBACK_KEY, error_from_status

log = logging.getLogger(__name__)

STATUS: dict[type[CodecError], StatusCode] = {
    errors.InvalidRequest: StatusCode.INVALID_ARGUMENT,
    errors.Unauthenticated: StatusCode.UNAUTHENTICATED,
    errors.Forbidden: StatusCode.PERMISSION_DENIED,
    errors.NotFound: StatusCode.NOT_FOUND,
    errors.MapMismatch: StatusCode.FAILED_PRECONDITION,
    errors.TooLarge: StatusCode.INVALID_ARGUMENT,
    errors.UnsupportedCoding: StatusCode.INVALID_ARGUMENT,
    errors.UnsupportedMediaType: StatusCode.INVALID_ARGUMENT,
    errors.RequestTimeout: StatusCode.DEADLINE_EXCEEDED,
    errors.NotAcceptable: StatusCode.INVALID_ARGUMENT,
    errors.UnsupportedModality: StatusCode.UNIMPLEMENTED,
    errors.Overloaded: StatusCode.RESOURCE_EXHAUSTED,
    errors.NotReady: StatusCode.UNAVAILABLE,
    errors.OutOfMemory: StatusCode.RESOURCE_EXHAUSTED,
    errors.OutOfStorage: StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
    errors.Cancelled: StatusCode.CANCELLED,
}
"""gRPC status code for each error class.

An error that is not an instance of a class in this table has the status code INTERNAL and a fixed message.
"""

_RECOGNIZED: tuple[type[CodecError], ...] = (
    errors.NotReady,
    errors.Overloaded,
    errors.DeadlineExceeded,
    errors.Cancelled,
)
"""Error classes that a gateway recognizes by the status code alone if the status has no details."""


def status_code(error: BaseException) -> StatusCode:
    """Return the gRPC status code for `error`, or INTERNAL if no class of `error` has a status code.

    If the class of `error` has no status code, the status code of the nearest base class is returned.
    """
    for cls in type(error).__mro__:
        if cls in STATUS:
            return STATUS[cls]
    return StatusCode.INTERNAL


def to_status(error: BaseException) -> grpc.Status:
    """Return the gRPC status of `error`, with the code, the message and machine-readable google.rpc details."""
    code = status_code(error)
    details: list[Message] = []
    message = INTERNAL_TEXT
    if isinstance(error, CodecError) and code is not StatusCode.INTERNAL:
        message = error.message
        info = error_details_pb2.ErrorInfo(reason=error.code.upper(), domain=ERROR_DOMAIN)
        if error.field is not None:
            info.metadata["field"] = error.field
        if isinstance(error, errors.UnsupportedModality):
            info.metadata["supported"] = ",".join(error.supported)
        details.append(info)
        if isinstance(error, errors.InvalidRequest):
            violation = error_details_pb2.BadRequest.FieldViolation(field=error.field or "", description=message)
            details.append(error_details_pb2.BadRequest(field_violations=[violation]))
        if isinstance(error, errors.RetryableError):
            delay = duration_pb2.Duration(seconds=error.retry_after_s)
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    number: int = code.value[0]
    return rpc_status.to_status(
        status_pb2.Status(code=code_pb2.Code.ValueType(number), message=message, details=[_packed(d) for d in details])
    )


def set_status(context: Any, error: Exception, metadata: tuple[tuple[str, str], ...] = ()) -> StatusCode:
    """Set the status and the trailing metadata of the call that fails with `error`, and return the status code.

    The trailing metadata contains `metadata` and the time that a client must wait before it retries the call.

    grpc.aio stores the exception that context.abort() raises. That exception would keep the frames of the call, and
    thus the request with its images, in memory until the next garbage collection. Therefore return from the method
    after this function, and do not use context.abort().
    """
    status = to_status(error)
    context.set_code(status.code)
    context.set_details(status.details)
    context.set_trailing_metadata((*status.trailing_metadata, *metadata, *_retry_metadata(error)))
    code: StatusCode = status.code
    return code


def _retry_metadata(error: Exception) -> tuple[tuple[str, str], ...]:
    """Return metadata with the time that a client must wait before it retries the call.

    The time is sent both as metadata and in google.rpc.RetryInfo, because gRPC's retry policies (gRFC A6) and proxies
    read only the metadata.
    """
    if not isinstance(error, errors.RetryableError):
        return ()
    return ((RETRY_PUSHBACK_KEY, str(error.retry_after_s * 1000)), (RETRY_AFTER_KEY, str(error.retry_after_s)))


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def from_rpc_error(error: AioRpcError) -> CodecError:
    """Return the error that a remote server raised, reconstructed from the status details of `error`.

    A status without google.rpc details was created by gRPC itself or by other software. The message of a status without
    details is logged and not returned to clients, because it may contain network addresses.
    """
    original = error_from_status(error.trailing_metadata() or (), error.code().value[0], error.details() or "")
    if original is not None:
        return original
    log.warning("the upstream server returned %s: %s", error.code().name, error.details())
    return _error_without_details(error.code())


def _error_without_details(code: StatusCode) -> CodecError:
    message = f"the upstream server returned {code.name}"
    cls = next((cls for cls in _RECOGNIZED if STATUS[cls] is code), CodecError)
    if issubclass(cls, errors.RetryableError):
        return cls(message, retry_after_s=1)
    return cls(message)
