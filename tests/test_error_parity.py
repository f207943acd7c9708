"""One tree, two tables: every error has its place in both, and survives the way through a gateway."""

import grpc
import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata

from codec_grpc import errors as over_grpc
from codec_http import errors as over_http
from core import errors
from core.errors import CodecError

HTTP_OF = {
    StatusCode.INVALID_ARGUMENT: {400, 406, 413},
    StatusCode.UNAUTHENTICATED: {401},
    StatusCode.PERMISSION_DENIED: {403},
    StatusCode.NOT_FOUND: {404},
    StatusCode.FAILED_PRECONDITION: {409},
    StatusCode.UNIMPLEMENTED: {415},
    StatusCode.RESOURCE_EXHAUSTED: {429, 503},
    StatusCode.UNAVAILABLE: {503},
    StatusCode.DEADLINE_EXCEEDED: {504},
    StatusCode.CANCELLED: {499},
    StatusCode.INTERNAL: {500},
}


def every_error(cls: type[CodecError] = CodecError) -> list[type[CodecError]]:
    return [cls, *(found for child in cls.__subclasses__() for found in every_error(child))]


def made(cls: type[CodecError]) -> CodecError:
    if issubclass(cls, errors.InvalidRequest | errors.NotFound):
        return cls("steps", "is wrong")
    if issubclass(cls, errors.RetryableError):
        return cls("later", 7)
    if issubclass(cls, errors.UnsupportedModality):
        return cls("no video", ("image-latents",))
    return cls("secret" if over_http.status_of(cls("")) == 500 else "it is so")


@pytest.mark.parametrize("cls", every_error())
def test_both_tables_mean_the_same(cls: type[CodecError]) -> None:
    error = made(cls)
    assert over_http.status_of(error) in HTTP_OF[over_grpc.status_code(error)]
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
        (StatusCode.INVALID_ARGUMENT, errors.InvalidRequest),
        (StatusCode.DATA_LOSS, CodecError),
    ],
)
def test_a_status_without_details_means_its_code(code: grpc.StatusCode, cls: type[CodecError]) -> None:
    assert type(over_grpc.from_rpc_error(AioRpcError(code, Metadata(), Metadata()))) is cls


def test_both_tables_hold_the_same_errors() -> None:
    assert list(over_http.STATUS) == list(over_grpc.STATUS)


def test_the_docstring_draws_the_whole_tree() -> None:
    drawn = errors.__doc__ or ""
    names = [cls.__name__ for cls in every_error() if cls is not errors.RetryableError]
    assert [name for name in names if name not in drawn] == []
