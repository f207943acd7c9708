"""Error responses, and the middleware that creates them and logs every request."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http_exceptions import LineTooLong

from codec_http.api_key import KEY_NAME
from codec_http.header_limit import MAX_HEADER_BYTES, MAX_LINE_BYTES
from codec_http.response_models import ErrorDetail, ErrorResponse
from codec_wire import errors
from codec_wire.errors import INTERNAL_TEXT, CodecError, truncated_repr
from codec_wire.http import CODEC_HEALTH_PATH, HEALTH_PATH, LIVENESS_PATH, READINESS_PATH, error_status

log = logging.getLogger(__name__)

_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CLIENT_DISCONNECTED = error_status(errors.Cancelled)


def error_response(error: BaseException) -> web.Response:
    """Return the response for `error`, in the format of OpenAI's API. The text of internal errors is not included."""
    status = error_status(type(error))
    if status == HTTPStatus.INTERNAL_SERVER_ERROR or not isinstance(error, CodecError):
        return _error_response(status, INTERNAL_TEXT, CodecError.code)
    headers: dict[str, str] = {}
    if isinstance(error, errors.RetryableError):
        headers[hdrs.RETRY_AFTER] = str(error.retry_after_s)
    if isinstance(error, errors.Unauthenticated):
        headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    extra: dict[str, Any] = {}
    if isinstance(error, errors.UnsupportedModality):
        extra["supported_modalities"] = list(error.supported)
    return _error_response(status, error.message, error.code, param=error.field, extra=extra, headers=headers)


def malformed_request_response(error: BaseException, message: str) -> web.Response:
    """Return the response to bytes that aiohttp's parser rejected with `error`, whose text is `message`."""
    if isinstance(error, LineTooLong):
        if error.args[1] == MAX_LINE_BYTES:
            return _error_response(
                HTTPStatus.REQUEST_URI_TOO_LONG,
                f"the request line must have at most {MAX_LINE_BYTES} bytes",
                errors.TooLarge.code,
            )
        return _error_response(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"the request header must have at most {MAX_HEADER_BYTES} bytes",
            errors.TooLarge.code,
        )
    reason = message.partition("\n")[0].rstrip(":")
    return error_response(errors.InvalidRequest("request", f"is not valid HTTP: {truncated_repr(reason)}"))


def _error_response(
    status: int,
    message: str,
    code: str,
    *,
    param: str | None = None,
    extra: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> web.Response:
    error_type = _OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    detail = ErrorDetail(message=message, type=error_type, param=param, code=code, **(extra or {}))
    body = ErrorResponse(error=detail).model_dump(exclude_unset=True)
    return web.json_response(body, status=status, headers={hdrs.CACHE_CONTROL: "no-store"} | (headers or {}))


PROBE_PATHS = (LIVENESS_PATH, READINESS_PATH, HEALTH_PATH, CODEC_HEALTH_PATH)
"""Paths that load balancers request every few seconds. They are logged at level DEBUG."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def error_boundary(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Convert exceptions to error responses, and log one line per request when it ends."""
    started = time.perf_counter()
    outcome = _CLIENT_DISCONNECTED
    try:
        response = await _handle(request, handler)
        outcome = response.status
    except asyncio.CancelledError:
        raise
    except ConnectionResetError:
        # The client disconnected while the response was written, so this response is never sent.
        return web.Response(status=_CLIENT_DISCONNECTED)
    else:
        return response
    finally:
        level = logging.DEBUG if request.path in PROBE_PATHS else logging.INFO
        key = f" key {request[KEY_NAME]}" if KEY_NAME in request else ""
        seconds = time.perf_counter() - started
        log.log(level, "HTTP %s %s %s %.3f s%s", request.method, request.raw_path, outcome, seconds, key)


async def _handle(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ConnectionResetError:
        raise
    except web.HTTPException as error:
        # Raised by aiohttp itself, e.g. 404 for an unknown path or 405 for an unsupported method.
        code = HTTPStatus(error.status).phrase.lower().replace(" ", "_")
        response = _error_response(error.status, f"{request.method} {request.path}: {error.reason}", code)
        if hdrs.ALLOW in error.headers:
            response.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
        return response
    except Exception as error:
        if not isinstance(error, CodecError):
            log.exception("%s %s failed", request.method, request.raw_path)
        elif error_status(type(error)) == HTTPStatus.INTERNAL_SERVER_ERROR:
            name = type(error).__name__
            log.error("%s %s failed: %s: %s", request.method, request.raw_path, name, error)  # noqa: TRY400
        return error_response(error)
