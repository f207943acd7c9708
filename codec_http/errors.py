"""How each error of the core travels over HTTP: one table, and the middleware that every request passes."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from aiohttp import web

from codec_http.response_models import ErrorAnswer, ErrorDetail
from codec_wire import errors
from codec_wire.errors import INTERNAL_TEXT, CodecError
from codec_wire.http import CODEC_HEALTH_PATH, HEALTH_PATH, LIVENESS_PATH, READINESS_PATH

log = logging.getLogger(__name__)

STATUS: dict[type[CodecError], int] = {
    errors.InvalidRequest: HTTPStatus.BAD_REQUEST,
    errors.Unauthenticated: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.MapMismatch: HTTPStatus.CONFLICT,
    errors.TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.NotAcceptable: HTTPStatus.NOT_ACCEPTABLE,
    errors.UnsupportedModality: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.Overloaded: HTTPStatus.TOO_MANY_REQUESTS,
    errors.NotReady: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.OutOfMemory: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT,
    errors.Cancelled: 499,
}
"""Everything else is 500, with a fixed text. 499 is for the log: whoever would read it is gone."""

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def status_of(error: BaseException) -> int:
    """Return the status of `error`: its class's, or that of the nearest class it extends; 500 for any other."""
    for cls in type(error).__mro__:
        if cls in STATUS:
            return int(STATUS[cls])
    return int(HTTPStatus.INTERNAL_SERVER_ERROR)


def error_response(error: BaseException) -> web.Response:
    """Return the OpenAI-shaped answer that says `error`."""
    status = status_of(error)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR or not isinstance(error, CodecError):
        return _response(status, INTERNAL_TEXT, CodecError.code)
    response_headers = {}
    if isinstance(error, errors.RetryableError):
        response_headers["Retry-After"] = str(error.retry_after_s)
    extra: dict[str, Any] = {}
    if isinstance(error, errors.UnsupportedModality):
        extra["supported_modalities"] = list(error.supported)
    return _response(status, error.message, error.code, param=error.field, extra=extra, headers=response_headers)


def _response(
    status: int,
    message: str,
    code: str,
    *,
    param: str | None = None,
    extra: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> web.Response:
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    detail = ErrorDetail(message=message, type=kind, param=param, code=code, **(extra or {}))
    body = ErrorAnswer(error=detail).model_dump(exclude_unset=True)
    return web.json_response(body, status=status, headers={"Cache-Control": "no-store"} | (headers or {}))


PROBES = (LIVENESS_PATH, READINESS_PATH, HEALTH_PATH, CODEC_HEALTH_PATH)
"""Asked every few seconds by machines: in the log for whoever looks closely."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def error_boundary(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error in one shape, and log one line per request, at its end."""
    started = time.perf_counter()
    outcome: object = 499
    try:
        response = await _answered(request, handler)
        outcome = response.status
    except asyncio.CancelledError:
        raise
    except ConnectionResetError:
        # The client left while it was written to. There is nobody to answer.
        return web.Response(status=499)
    else:
        return response
    finally:
        level = logging.DEBUG if request.path in PROBES else logging.INFO
        log.log(level, "HTTP %s %s %s %.3f s", request.method, request.raw_path, outcome, time.perf_counter() - started)


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ConnectionResetError:
        raise
    except web.HTTPException as error:
        # aiohttp's own answers: no such path, wrong method, too large a body.
        code = HTTPStatus(error.status).phrase.lower().replace(" ", "_")
        answer = _response(error.status, f"{request.method} {request.path}: {error.reason}", code)
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except Exception as error:
        if not isinstance(error, CodecError):
            log.exception("%s %s failed", request.method, request.raw_path)
        elif status_of(error) == HTTPStatus.INTERNAL_SERVER_ERROR:
            name = type(error).__name__
            log.error("%s %s failed: %s: %s", request.method, request.raw_path, name, error)  # noqa: TRY400
        return error_response(error)
