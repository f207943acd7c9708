"""How each error of the core travels over gRPC: one table out, and the way back for whoever calls another server."""

from typing import cast

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import StatusCode
from grpc.aio import AioRpcError
from grpc_status import rpc_status

from core import errors
from core.errors import CodecError

DOMAIN = "codec-diffusers"

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

INTERNAL_TEXT = "internal error; the server's log has the reason"


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
        info = error_details_pb2.ErrorInfo(reason=error.code.upper(), domain=DOMAIN)
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
    """Return the core error that a remote server meant, rebuilt from its details; from its code where it has none."""
    status = rpc_status.from_call(cast(grpc.Call, error))  # it asks for no more than the two have in common
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status.details if status is not None else ():
        _ = detail.Unpack(info) or detail.Unpack(retry)
    message = error.details() or error.code().name
    after = int(retry.retry_delay.seconds) or 1
    cls = _BY_REASON.get(info.reason) if info.domain == DOMAIN else _BY_CODE.get(error.code())
    if cls is None:
        return CodecError(message)
    if issubclass(cls, errors.RetryableError):
        return cls(message, after)
    if issubclass(cls, errors.InvalidRequest | errors.NotFound):
        field = info.metadata.get("field", "request")
        return cls(field, message.removeprefix(f"{field}: "))
    if issubclass(cls, errors.UnsupportedModality):
        return cls(message, tuple(info.metadata.get("supported", "").split(",")))
    return cls(message)


_BY_REASON: dict[str, type[CodecError]] = {cls.code.upper(): cls for cls in STATUS}
_BY_CODE: dict[StatusCode, type[CodecError]] = {
    # The first row that names a code is the plain meaning of it.
    code: cls
    for cls, code in reversed(STATUS.items())
}
