"""Conversion of HTTP error responses and connection errors to CodecErrors."""

import json
import os
import ssl
from typing import Any

import aiohttp

from codec_client.errors import ServerUnreachable, UnexpectedAnswer
from codec_client.response_body import read_up_to
from codec_wire.errors import CodecError
from codec_wire.http import retryable_error
from codec_wire.remote_errors import error_from_code

_MAX_ERROR_BYTES = 64 * 1024
_MAX_SECONDS_DIGITS = 9
"""Number of digits of a Retry-After header that are read. A number with more digits is longer than any timeout."""


async def error_of(response: aiohttp.ClientResponse) -> CodecError:
    """Return the CodecError that describes a response whose status is not 200."""
    text = await read_up_to(response, _MAX_ERROR_BYTES)
    after = response.headers.get("Retry-After", "")
    retry_after_s = int(after[:_MAX_SECONDS_DIGITS]) if after.isascii() and after.isdecimal() else None
    try:
        body = json.loads(text)
        message = str(body["error"]["message"])
        reported = reported_error(body, retry_after_s)
    except (ValueError, KeyError, TypeError, RecursionError):
        reported, message = None, text[:200].decode(errors="replace").strip()
    if reported is not None:
        return reported
    # The response is from a proxy, or from other software with its own error codes.
    cls = retryable_error(response.status)
    if cls is not None:
        return cls(message or f"the server returned {response.status} {response.reason}", retry_after_s or 1)
    return UnexpectedAnswer(f"{response.url} returned HTTP status {response.status}: {message or response.reason}")


def reported_error(body: Any, retry_after_s: int | None = None) -> CodecError | None:
    """Return the error that the JSON `body` of a response describes, or None if no Codec server wrote the body."""
    try:
        error = body["error"]
        return error_from_code(
            str(error["code"]),
            str(error["message"]),
            field=error.get("param"),
            retry_after_s=retry_after_s,
            supported=tuple(map(str, error.get("supported_modalities", ()))),
        )
    except (KeyError, TypeError, AttributeError):
        return None


def reason_of(error: BaseException) -> str:
    """Return the reason of a connection error, without the address that aiohttp adds to the error message."""
    cause = getattr(error, "os_error", error)
    if isinstance(cause, ssl.SSLError):  # its errno is not a system error number
        return str(getattr(cause, "verify_message", None) or cause.reason or cause).replace("_", " ").lower()
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno)
    return str(getattr(cause, "strerror", None) or cause or type(cause).__name__).splitlines()[0]


def unreachable(address: str, error: BaseException) -> ServerUnreachable:
    """Return the error for a connection to `address`, a server or a URL, that failed because of aiohttp's `error`."""
    reason = reason_of(error)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return ServerUnreachable(f"the certificate of {address} is not trusted: {reason}")
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return ServerUnreachable(
            f"TLS handshake with {address} failed: {reason}; "
            "if the server does not use TLS, use an address that begins with http://"
        )
    return ServerUnreachable(f"cannot connect to {address}: {reason}")
