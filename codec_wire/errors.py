"""Everything that can go wrong, as one tree without status codes.

    CodecError
    ├── FieldError               what one field of the request asks for cannot be had
    │   ├── InvalidRequest       it is wrong
    │   └── NotFound             a model, map or dictionary that is not here
    ├── Unauthenticated          no credential, or a wrong one
    ├── Forbidden                a credential that does not allow this
    ├── MapMismatch              the client holds another latent-space map
    ├── TooLarge                 a request over what may be asked for at all
    ├── NotAcceptable            the client takes none of the content codings there are
    ├── UnsupportedModality      a modality that this server does not make
    ├── RetryableError           what passes
    │   ├── Overloaded           the queue is full
    │   └── NotReady             loading, or draining
    ├── OutOfMemory              the device ran out of memory; the next request works
    ├── DeadlineExceeded         the client's or the server's time is up
    ├── Cancelled                the client left
    ├── InvalidLatents           the pipeline gave NaN, Inf, or what fp16 cannot scale
    ├── StreamError              a latent stream that breaks the contract
    │   ├── MalformedMessage     bytes that are no message, or a field of the wrong type or value
    │   ├── MessageTooLarge      a message over what its header allows
    │   ├── SequenceError        a gap, a repetition, a residual without keyframe, something after the end
    │   ├── TruncatedStream      the end before a frame with `done`
    │   └── StreamFailed         the sender ended the stream with finish_reason "error"
    └── StartupError             the server cannot start
        ├── InvalidMap           a latent-space map, or one of its files, is not what it should be
        ├── ModelLoadError       a model cannot be loaded
        └── InvalidSettings      a setting is wrong

How each travels is one table per protocol: codec_http/errors.py and codec_grpc/errors.py.
"""

from typing import Any

INTERNAL_TEXT = "internal error; the server's log has the reason"
"""All that a client is told of an error that is none of these."""


class CodecError(Exception):
    """Base of all errors. `str(error)` is one sentence that a client may read.

    `code` names the class on the wire; `field` names the request's field at fault, where one is.
    """

    code: str = "internal"
    field: str | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class FieldError(CodecError):
    """Something that one field of the request asks for cannot be had. `field` names it, and the message begins so."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class InvalidRequest(FieldError):
    """A field of the request is wrong. The message says what came and what is allowed."""

    code = "invalid_request"


class Unauthenticated(CodecError):
    """No credential came, or a wrong one."""

    code = "unauthenticated"


class Forbidden(CodecError):
    """The credential does not allow this."""

    code = "forbidden"


class NotFound(FieldError):
    """A model, latent-space map or dictionary is not on this server."""

    code = "not_found"


class MapMismatch(CodecError):
    """The client pins another latent-space map than the server's."""

    code = "map_mismatch"


class TooLarge(CodecError):
    """The request is over what may be asked for at all."""

    code = "too_large"


class NotAcceptable(CodecError):
    """The client takes none of the content codings that the answer could have."""

    code = "not_acceptable"


class UnsupportedModality(CodecError):
    """The server does not make this modality. `supported` lists what it makes."""

    code = "unsupported_modality"
    field = "modality"

    def __init__(self, message: str, supported: tuple[str, ...]) -> None:
        super().__init__(message)
        self.supported = supported


class RetryableError(CodecError):
    """Something that passes. `retry_after_s` is the server's own estimate, in seconds."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Overloaded(RetryableError):
    """The queue is full."""

    code = "overloaded"


class NotReady(RetryableError):
    """The server is loading or draining."""

    code = "not_ready"


class OutOfMemory(CodecError):
    """The device ran out of memory for this request."""

    code = "out_of_memory"


class DeadlineExceeded(CodecError):
    """The time for this request is up."""

    code = "deadline_exceeded"


class Cancelled(CodecError):
    """The client left, or asked to stop."""

    code = "cancelled"


class InvalidLatents(CodecError):
    """The pipeline gave NaN or Inf, or a channel whose scale is not finite in fp16."""

    code = "invalid_latents"


class StreamError(CodecError):
    """A latent stream breaks the contract.

    `offset` is the byte of the stream at which the message at fault begins, where that is known.
    """

    code = "stream_error"

    def __init__(self, message: str, offset: int | None = None) -> None:
        super().__init__(message if offset is None else f"at byte {offset}: {message}")
        self.message = message
        self.offset = offset


class MalformedMessage(StreamError):
    """Bytes that are no message, or a message with a field of the wrong type or value."""

    code = "malformed_message"


class MessageTooLarge(StreamError):
    """A message over what its header allows."""

    code = "message_too_large"


class SequenceError(StreamError):
    """A gap or repetition in `seq`, a residual without its keyframe, or something after the end."""

    code = "sequence_error"


class TruncatedStream(StreamError):
    """The stream ended before a frame with `done`."""

    code = "truncated_stream"


class StreamFailed(StreamError):
    """The sender ended the stream with finish_reason "error"."""

    code = "stream_failed"


class StartupError(CodecError):
    """The server cannot start. The message says what to change."""

    code = "startup_error"


class InvalidMap(StartupError):
    """A latent-space map, or one of its files, is not what it should be."""

    code = "invalid_map"


class ModelLoadError(StartupError):
    """A model cannot be loaded."""

    code = "model_load_error"


class InvalidSettings(StartupError):
    """A setting is wrong."""

    code = "invalid_settings"


def without_traceback(error: CodecError) -> CodecError:
    """Return `error` without what it was raised from and through.

    A traceback keeps every frame alive that the error passed, and with them the tensors that a failed generation
    still held. An error that is handed on is detached first; whatever it hid was logged before.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def truncated_repr(value: Any, limit: int = 80) -> str:
    """Return `value` as it may stand in a message: its repr, cut to `limit` characters."""
    text = repr(value[: limit + 1]) if isinstance(value, str | bytes) else repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
