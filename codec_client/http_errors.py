"""What an HTTP server's refusal, and a connection that fails, are as errors of ours."""

import json
import os
import ssl

import aiohttp

from codec_client.errors import UnexpectedAnswer
from codec_wire.errors import CodecError
from codec_wire.http import retryable_error
from codec_wire.remote_errors import error_from_code

_MAX_ERROR_BYTES = 64 * 1024


async def error_of(response: aiohttp.ClientResponse) -> CodecError:
    """Return the error that an answer other than 200 says, as the server said it."""
    text = await response.content.read(_MAX_ERROR_BYTES)
    after = response.headers.get("Retry-After", "")
    retry_after_s = int(after) if after.isascii() and after.isdecimal() else None
    try:
        error = json.loads(text)["error"]
        code, message = str(error["code"]), str(error["message"])
        said = error_from_code(
            code,
            message,
            field=error.get("param"),
            retry_after_s=retry_after_s,
            supported=tuple(map(str, error.get("supported_modalities", ()))),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        said, message = None, text[:200].decode(errors="replace").strip()
    if said is not None:
        return said
    # The response is from a proxy, or from other software with its own error codes.
    cls = retryable_error(response.status)
    if cls is not None:
        return cls(message or f"the server returned {response.status} {response.reason}", retry_after_s or 1)
    return UnexpectedAnswer(f"{response.url} answers {response.status}: {message or response.reason}")


def reason_of(error: BaseException) -> str:
    """Return an error's reason without the address, which stands before it already."""
    cause = getattr(error, "os_error", error)
    if isinstance(cause, ssl.SSLError):  # its number is no system's
        return str(getattr(cause, "verify_message", None) or cause.reason or cause).replace("_", " ").lower()
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno)
    return str(getattr(cause, "strerror", None) or cause or type(cause).__name__).splitlines()[0]
