"""The exceptions of the project, in one class hierarchy without HTTP or gRPC status codes.

    CodecError
    ├── FieldError               one field of the request caused the error
    │   ├── InvalidRequest       a field has a value that is not allowed
    │   └── NotFound             the model, map or dictionary does not exist on this server
    ├── Unauthenticated          credentials are missing or not valid
    ├── Forbidden                the request is not allowed with its credentials, Host or Origin
    ├── MapMismatch              client and server have different latent-space maps
    ├── TooLarge                 the request exceeds a limit of the server
    ├── UnsupportedCoding        the body of the request is compressed
    ├── UnsupportedMediaType     the endpoint does not accept the Content-Type of the request
    ├── RequestTimeout           the body of the request does not arrive in time
    ├── NotAcceptable            the client accepts no available media type or content coding
    ├── UnsupportedModality      the model does not generate this modality
    ├── RetryableError           a temporary error, with the number of seconds to wait
    │   ├── Overloaded           the queue is full
    │   └── NotReady             the server is loading a model or shutting down
    ├── OutOfMemory              the device ran out of memory for this request
    ├── OutOfStorage             a temporary file cannot be written
    ├── DeadlineExceeded         the request did not finish in time
    ├── Cancelled                the client cancelled the request or disconnected
    ├── InvalidLatents           the pipeline produced NaN, Inf or values that cannot be encoded
    ├── StreamError              a received latent stream is not valid
    │   ├── MalformedMessage     a message cannot be parsed or a field has an invalid value
    │   ├── MessageTooLarge      a message exceeds the size allowed by its header or by the reader
    │   ├── SequenceError        frames are missing, repeated or out of order
    │   ├── TruncatedStream      the stream ended before its last frame
    │   └── StreamFailed         the sender reported an error in the last frame
    └── StartupError             the server or a command cannot start
        ├── InvalidMap           a latent-space map or one of its files is not valid
        ├── ModelLoadError       a model cannot be loaded
        └── InvalidSettings      a setting has a value that is not allowed

HTTP and gRPC each have one table with the status codes of the error classes. The table of HTTP status codes is
ERROR_STATUS in codec_wire/http.py. The table of gRPC status codes is in codec_grpc/errors.py.
"""

from typing import Any

INTERNAL_TEXT = "internal error; the server's log has the reason"
"""Message sent to clients for every exception that is not a CodecError."""


class CodecError(Exception):
    """Base class of all exceptions of codec-diffusers. `str(error)` is one sentence that is safe to send to clients.

    `code` is the string that identifies the error class in responses. `field` is the name of the request field that
    caused the error, or None if no field caused the error.
    """

    code: str = "internal"
    field: str | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is otherwise restored by calling its class with `args`, which is the message alone.
        return _restored_error, (type(self), self.args, vars(self))


def _restored_error(cls: type[CodecError], args: tuple[Any, ...], attributes: dict[str, Any]) -> CodecError:
    """Return the unpickled error, which has the class `cls`, the arguments `args` and the attributes `attributes`."""
    error = cls.__new__(cls, *args)
    vars(error).update(attributes)
    return error


class FieldError(CodecError):
    """Base class of errors caused by one field of the request. The message begins with the name of the field."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class InvalidRequest(FieldError):
    """Raised when a field of the request has a value that is not allowed.

    The message of the error states the received value and what is allowed.
    """

    code = "invalid_request"


class Unauthenticated(CodecError):
    """Raised when the credentials of a request are missing or not valid."""

    code = "unauthenticated"


class Forbidden(CodecError):
    """Raised when the server rejects a request because of the request's credentials, Host header or Origin header."""

    code = "forbidden"


class NotFound(FieldError):
    """Raised when a model, latent-space map or dictionary does not exist on this server."""

    code = "not_found"


class MapMismatch(CodecError):
    """Raised when the server does not use the latent-space map that the client requires."""

    code = "map_mismatch"


class TooLarge(CodecError):
    """Raised when a request exceeds a fixed limit of the server. The same request will fail again."""

    code = "too_large"


class UnsupportedCoding(CodecError):
    """Raised when the body of a request has a content coding, such as gzip. Servers accept only uncompressed bodies."""

    code = "unsupported_coding"


class UnsupportedMediaType(CodecError):
    """Raised when the endpoint does not accept the Content-Type of a request."""

    code = "unsupported_media_type"


class RequestTimeout(CodecError):
    """Raised when the body of a request does not arrive in time."""

    code = "request_timeout"


class NotAcceptable(CodecError):
    """Raised when the client accepts none of the media types or content codings that are available for the response."""

    code = "not_acceptable"


class UnsupportedModality(CodecError):
    """Raised when the model does not generate the requested modality.

    `supported` contains the modalities that the model generates.
    """

    code = "unsupported_modality"
    field = "modality"

    def __init__(self, message: str, supported: tuple[str, ...]) -> None:
        super().__init__(message)
        self.supported = supported


class RetryableError(CodecError):
    """Base class of temporary errors. `retry_after_s` is the server's estimate of the time to wait, in seconds."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Overloaded(RetryableError):
    """Raised when the server has too many active requests to accept another request."""

    code = "overloaded"


class NotReady(RetryableError):
    """Raised when the server is loading a model or shutting down."""

    code = "not_ready"


class OutOfMemory(CodecError):
    """Raised when the device runs out of memory for a request. The server can still run later requests."""

    code = "out_of_memory"


class OutOfStorage(CodecError):
    """Raised when a temporary file cannot be written, for example because the disk is full or read-only."""

    code = "out_of_storage"


class DeadlineExceeded(CodecError):
    """Raised when a request does not finish within the time set by the client or the server."""

    code = "deadline_exceeded"


class Cancelled(CodecError):
    """Raised when the client cancels a request or disconnects."""

    code = "cancelled"


class InvalidLatents(CodecError):
    """Raised when a model produces NaN, Inf or a channel whose scale is not finite in fp16."""

    code = "invalid_latents"


class StreamError(CodecError):
    """Raised when a received latent stream is not valid. The subclasses of StreamError distinguish the reasons.

    `offset` is the position in bytes of the invalid message in the decompressed stream, or None if the position is
    unknown.
    """

    code = "stream_error"

    def __init__(self, message: str, offset: int | None = None) -> None:
        super().__init__(message if offset is None else f"at byte {offset}: {message}")
        self.message = message
        self.offset = offset


class MalformedMessage(StreamError):
    """Raised when a message cannot be parsed or one of its fields has an invalid type or value."""

    code = "malformed_message"


class MessageTooLarge(StreamError):
    """Raised when a message or a stream exceeds the size that the stream header or a limit of the reader allows."""

    code = "message_too_large"


class SequenceError(StreamError):
    """Raised when frames are missing, repeated or out of order, or when data follows the last frame."""

    code = "sequence_error"


class TruncatedStream(StreamError):
    """Raised when a stream ends before the last frame.

    In the last frame of a complete stream, the field `done` is true.
    """

    code = "truncated_stream"


class StreamFailed(StreamError):
    """Raised when the last frame has the finish_reason "error", because the sender could not complete the stream."""

    code = "stream_failed"


class StartupError(CodecError):
    """Raised when the server or a command cannot start. The message of the error states what the user must change."""

    code = "startup_error"


class InvalidMap(StartupError):
    """Raised when a latent-space map is not valid, or when a file that the map refers to is not valid."""

    code = "invalid_map"


class ModelLoadError(StartupError):
    """Raised when a model cannot be loaded."""

    code = "model_load_error"


class InvalidSettings(StartupError):
    """Raised when a setting or a command-line option has a value that is not allowed."""

    code = "invalid_settings"


def without_traceback(error: CodecError) -> CodecError:
    """Return `error` without its traceback, cause and context.

    A traceback keeps the local variables of every stack frame alive, including the tensors of a failed generation. Call
    this function before you store an error or pass an error to another thread. Log the cause before the call, because
    the returned error does not contain the cause.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def truncated_repr(value: Any, limit: int = 80) -> str:
    """Return the repr of `value`, truncated to `limit` characters, for use in an error message."""
    text = repr(value[: limit + 1]) if isinstance(value, str | bytes) else repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
