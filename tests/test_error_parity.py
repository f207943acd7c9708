"""One tree, two tables: every error has its place in both, and survives the way through a gateway."""

import grpc
import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata

from codec_grpc import errors as over_grpc
from codec_http import errors as over_http
from codec_wire import errors
from codec_wire.errors import CodecError

TABLE: dict[type[CodecError], tuple[int, StatusCode]] = {
    errors.InvalidRequest: (400, StatusCode.INVALID_ARGUMENT),
    errors.Unauthenticated: (401, StatusCode.UNAUTHENTICATED),
    errors.Forbidden: (403, StatusCode.PERMISSION_DENIED),
    errors.NotFound: (404, StatusCode.NOT_FOUND),
    errors.MapMismatch: (409, StatusCode.FAILED_PRECONDITION),
    errors.TooLarge: (413, StatusCode.INVALID_ARGUMENT),
    errors.NotAcceptable: (406, StatusCode.INVALID_ARGUMENT),
    errors.UnsupportedModality: (415, StatusCode.UNIMPLEMENTED),
    errors.Overloaded: (429, StatusCode.RESOURCE_EXHAUSTED),
    errors.NotReady: (503, StatusCode.UNAVAILABLE),
    errors.OutOfMemory: (503, StatusCode.RESOURCE_EXHAUSTED),
    errors.DeadlineExceeded: (504, StatusCode.DEADLINE_EXCEEDED),
    errors.Cancelled: (499, StatusCode.CANCELLED),
}
"""What the design says, in full; anything else is 500 and INTERNAL."""


def every_error(cls: type[CodecError] = CodecError) -> list[type[CodecError]]:
    return [cls, *(found for child in cls.__subclasses__() for found in every_error(child))]


def made(cls: type[CodecError]) -> CodecError:
    if issubclass(cls, errors.FieldError):
        return cls("steps", "is wrong")
    if issubclass(cls, errors.RetryableError):
        return cls("later", 7)
    if issubclass(cls, errors.UnsupportedModality):
        return cls("no video", ("image-latents",))
    return cls("secret" if over_http.status_of(cls("")) == 500 else "it is so")


@pytest.mark.parametrize("cls", every_error())
def test_both_tables_mean_the_same(cls: type[CodecError]) -> None:
    error = made(cls)
    expected = TABLE.get(cls, (500, StatusCode.INTERNAL))
    assert (over_http.status_of(error), over_grpc.status_code(error)) == expected
    response = over_http.error_response(error)
    status = over_grpc.to_status(error)
    assert status.code is over_grpc.status_code(error)
    assert isinstance(response.text, str)
    assert "secret" not in response.text
    assert "secret" not in status.details
    if cls in (errors.Overloaded, errors.NotReady):
        assert response.headers["Retry-After"] == "7"


@pytest.mark.parametrize("cls", over_http.STATUS)
def test_an_error_survives_the_way_through_grpc(cls: type[CodecError]) -> None:
    error = made(cls)
    status = over_grpc.to_status(error)
    received = AioRpcError(status.code, Metadata(), Metadata(*status.trailing_metadata), details=status.details)
    back = over_grpc.from_rpc_error(received)
    assert type(back) is cls
    assert (back.message, back.field) == (error.message, error.field)
    assert vars(back) == vars(error)


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        (StatusCode.UNAVAILABLE, errors.NotReady),
        (StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (StatusCode.RESOURCE_EXHAUSTED, errors.Overloaded),
        (StatusCode.CANCELLED, errors.Cancelled),
        (StatusCode.INVALID_ARGUMENT, CodecError),
        (StatusCode.UNIMPLEMENTED, CodecError),
        (StatusCode.DATA_LOSS, CodecError),
    ],
)
def test_a_status_without_details_means_its_code_and_tells_no_address(
    code: grpc.StatusCode, cls: type[CodecError]
) -> None:
    error = over_grpc.from_rpc_error(AioRpcError(code, Metadata(), Metadata(), details="ipv4:10.0.0.7:50051"))
    assert type(error) is cls
    assert "10.0.0.7" not in error.message


def test_details_that_contradict_their_status_are_passed_over() -> None:
    status = over_grpc.to_status(errors.NotReady("later", 3))
    received = AioRpcError(StatusCode.INTERNAL, Metadata(), Metadata(*status.trailing_metadata), details="x")
    assert type(over_grpc.from_rpc_error(received)) is CodecError


def test_both_tables_hold_the_same_errors() -> None:
    assert list(over_http.STATUS) == list(over_grpc.STATUS)


def test_the_docstring_draws_the_whole_tree() -> None:
    drawn = errors.__doc__ or ""
    names = [cls.__name__ for cls in every_error() if cls.__module__ == errors.__name__]
    assert [name for name in names if name not in drawn] == []
