"""Reconstruction of a CodecError from the code and message sent by a remote server."""

from codec_wire import errors
from codec_wire.errors import CodecError, FieldError, RetryableError, UnsupportedModality

_CLASS_BY_CODE: dict[str, type[CodecError]] = {
    value.code: value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, CodecError) and "code" in vars(value)
}


def error_from_code(
    code: str,
    message: str,
    *,
    field: str | None = None,
    retry_after_s: int | None = None,
    supported: tuple[str, ...] = (),
) -> CodecError | None:
    """Return an error of the class that has the error code `code`, or None if the code is unknown.

    `field`, `retry_after_s` and `supported` are attributes that only some error classes have.
    """
    cls = _CLASS_BY_CODE.get(code)
    if cls is None:
        return None
    if issubclass(cls, RetryableError):
        return cls(message, retry_after_s or 1)
    if issubclass(cls, FieldError):
        name = field or "request"
        return cls(name, message.removeprefix(f"{name}: "))
    if issubclass(cls, UnsupportedModality):
        return cls(message, supported)
    return cls(message)
