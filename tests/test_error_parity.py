"""The error tables of HTTP and gRPC cover the same errors, and a gateway preserves every error."""

import pickle
import re
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata

from codec_grpc import errors as grpc_errors
from codec_http.errors import error_response
from codec_wire import errors
from codec_wire.errors import CodecError
from codec_wire.http import ERROR_STATUS, error_status, retryable_error

TABLE: dict[type[CodecError], tuple[int, StatusCode]] = {
    errors.InvalidRequest: (400, StatusCode.INVALID_ARGUMENT),
    errors.Unauthenticated: (401, StatusCode.UNAUTHENTICATED),
    errors.Forbidden: (403, StatusCode.PERMISSION_DENIED),
    errors.NotFound: (404, StatusCode.NOT_FOUND),
    errors.MapMismatch: (409, StatusCode.FAILED_PRECONDITION),
    errors.TooLarge: (413, StatusCode.INVALID_ARGUMENT),
    errors.UnsupportedCoding: (415, StatusCode.INVALID_ARGUMENT),
    errors.UnsupportedMediaType: (415, StatusCode.INVALID_ARGUMENT),
    errors.RequestTimeout: (408, StatusCode.DEADLINE_EXCEEDED),
    errors.NotAcceptable: (406, StatusCode.INVALID_ARGUMENT),
    errors.UnsupportedModality: (415, StatusCode.UNIMPLEMENTED),
    errors.Overloaded: (429, StatusCode.RESOURCE_EXHAUSTED),
    errors.NotReady: (503, StatusCode.UNAVAILABLE),
    errors.OutOfMemory: (503, StatusCode.RESOURCE_EXHAUSTED),
    errors.OutOfStorage: (503, StatusCode.RESOURCE_EXHAUSTED),
    errors.DeadlineExceeded: (504, StatusCode.DEADLINE_EXCEEDED),
    errors.Cancelled: (499, StatusCode.CANCELLED),
}
"""The complete table of the design. Every other error is 500 and INTERNAL."""


OPERATIONS = (Path(__file__).resolve().parent.parent / "docs/operations.md").read_text()


def error_classes(cls: type[CodecError] = CodecError) -> list[type[CodecError]]:
    return [cls, *(found for child in cls.__subclasses__() for found in error_classes(child))]


def create(cls: type[CodecError]) -> CodecError:
    if issubclass(cls, errors.FieldError):
        return cls("steps", "is wrong")
    if issubclass(cls, errors.RetryableError):
        return cls("later", 7)
    if issubclass(cls, errors.UnsupportedModality):
        return cls("no video", ("image-latents",))
    return cls("secret" if error_status(cls) == 500 else "a message")


def test_documentation_lists_every_error() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+)[\d, ]* \| ([A-Z_]+) \|", OPERATIONS, re.MULTILINE)
    documented = {code: (int(http), grpc_name) for code, http, grpc_name in rows}
    expected = {cls.code: (http, code.name) for cls, (http, code) in TABLE.items()}
    assert documented == expected | {CodecError.code: (500, StatusCode.INTERNAL.name)}


@pytest.mark.parametrize("cls", error_classes())
def test_error_has_the_designed_statuses(cls: type[CodecError]) -> None:
    error = create(cls)
    expected = TABLE.get(cls, (500, StatusCode.INTERNAL))
    assert (error_status(cls), grpc_errors.status_code(error)) == expected
    response = error_response(error)
    status = grpc_errors.to_status(error)
    assert status.code is grpc_errors.status_code(error)
    assert isinstance(response.text, str)
    assert "secret" not in response.text
    assert "secret" not in status.details
    if cls in (errors.Overloaded, errors.NotReady):
        assert response.headers["Retry-After"] == "7"


@pytest.mark.parametrize("cls", ERROR_STATUS)
def test_error_is_reconstructed_from_its_grpc_status(cls: type[CodecError]) -> None:
    error = create(cls)
    status = grpc_errors.to_status(error)
    received = AioRpcError(status.code, Metadata(), Metadata(*status.trailing_metadata), details=status.details)
    reconstructed = grpc_errors.from_rpc_error(received)
    assert type(reconstructed) is cls
    assert (reconstructed.message, reconstructed.field) == (error.message, error.field)
    assert vars(reconstructed) == vars(error)


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
def test_status_without_details_becomes_an_error_without_its_message(
    code: grpc.StatusCode, cls: type[CodecError]
) -> None:
    error = grpc_errors.from_rpc_error(AioRpcError(code, Metadata(), Metadata(), details="ipv4:10.0.0.7:50051"))
    assert type(error) is cls
    assert "10.0.0.7" not in error.message


def test_details_that_contradict_the_status_are_ignored() -> None:
    status = grpc_errors.to_status(errors.NotReady("later", 3))
    received = AioRpcError(StatusCode.INTERNAL, Metadata(), Metadata(*status.trailing_metadata), details="x")
    assert type(grpc_errors.from_rpc_error(received)) is CodecError


@pytest.mark.parametrize(
    ("status", "cls"), [(429, errors.Overloaded), (503, errors.NotReady), (500, None), (504, None), (200, None)]
)
def test_retryable_error_of_http_status(status: int, cls: type[CodecError] | None) -> None:
    assert retryable_error(status) is cls


def test_both_tables_contain_the_same_errors() -> None:
    assert list(ERROR_STATUS) == list(grpc_errors.STATUS)


def test_docstring_lists_every_error() -> None:
    documentation = errors.__doc__ or ""
    names = [cls.__name__ for cls in error_classes() if cls.__module__ == errors.__name__]
    assert [name for name in names if name not in documentation] == []


@pytest.mark.parametrize("cls", error_classes())
def test_error_can_be_sent_to_another_process(cls: type[CodecError]) -> None:
    error = create(cls)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is cls
    assert (str(copy), copy.args, vars(copy)) == (str(error), error.args, vars(error))
    assert copy.field == error.field
