"""How each error of the core travels over gRPC: one table out, and the way back for whoever calls another server."""

import logging

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import StatusCode
from grpc.aio import AioRpcError
from grpc_status import rpc_status

from codec_wire import errors
from codec_wire.errors import INTERNAL_TEXT, CodecError
from codec_wire.grpc import ERROR_DOMAIN, error_from_status

log = logging.getLogger(__name__)

STATUS: dict[type[CodecError], StatusCode] = {
    errors.InvalidRequest: StatusCode.INVALID_ARGUMENT,
    errors.Unauthenticated: StatusCode.UNAUTHENTICATED,
    errors.Forbidden: StatusCode.PERMISSION_DENIED,
    errors.NotFound: StatusCode.NOT_FOUND,
    errors.MapMismatch: StatusCode.FAILED_PRECONDITION,
    errors.TooLarge: StatusCode.INVALID_ARGUMENT,
    errors.NotAcceptable: StatusCode.INVALID_ARGUMENT,
    errors.UnsupportedModality: StatusCode.UNIMPLEMENTED,
    errors.Overloaded: StatusCode.RESOURCE_EXHAUSTED,
    errors.NotReady: StatusCode.UNAVAILABLE,
    errors.OutOfMemory: StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
    errors.Cancelled: StatusCode.CANCELLED,
}
"""Everything else is INTERNAL, with a fixed text."""


def status_code(error: BaseException) -> StatusCode:
    """Return the code of `error`: its class's, or that of the nearest class it extends; INTERNAL for any other."""
    for cls in type(error).__mro__:
        if cls in STATUS:
            return STATUS[cls]
    return StatusCode.INTERNAL


def to_status(error: BaseException) -> grpc.Status:
    """Return the whole status of `error`: code, message, and google.rpc details for programs to read."""
    code = status_code(error)
    known = isinstance(error, CodecError) and code is not StatusCode.INTERNAL
    details: list[Message] = []
    message = INTERNAL_TEXT
    if known:
        assert isinstance(error, CodecError)  # noqa: S101 - for the type checker
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


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def from_rpc_error(error: AioRpcError) -> CodecError:
    """Return the core error that a remote server meant, rebuilt from its details.

    A status without our details comes from gRPC itself or from another server; its text may hold addresses, so it
    goes to the log, and the error says no more than its code does.
    """
    meant = error_from_status(error.trailing_metadata() or (), error.code().value[0], error.details() or "")
    if meant is not None:
        return meant
    log.warning("the remote server answered %s: %s", error.code().name, error.details())
    return _by_code(error.code())


def _by_code(code: StatusCode) -> CodecError:
    """Return what a bare status means: the passing ones keep their meaning, of the others nothing is known."""
    text = f"the server behind this one answered {code.name}"
    if code is StatusCode.UNAVAILABLE:
        return errors.NotReady(text, 1)
    if code is StatusCode.RESOURCE_EXHAUSTED:
        return errors.Overloaded(text, 1)
    if code is StatusCode.DEADLINE_EXCEEDED:
        return errors.DeadlineExceeded(text)
    if code is StatusCode.CANCELLED:
        return errors.Cancelled(text)
    return CodecError(text)
