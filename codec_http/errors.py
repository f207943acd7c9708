"""Error responses, and the middleware that creates error responses and logs every request."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.typedefs import Middleware

from codec_http.header_limit import MAX_HEADER_BYTES, MAX_LINE_BYTES
from codec_http.response_models import ErrorDetail, ErrorResponse
from codec_wire import errors
from codec_wire.errors import INTERNAL_TEXT, CodecError, truncated_repr
from codec_wire.http import (
    CODEC_HEALTH_PATH,
    DECODE_PATH,
    EDITS_PATH,
    ENCODE_PATH,
    GENERATION_PATHS,
    HEALTH_PATH,
    HF_DECODE_PATH,
    HF_ENCODE_PATH,
    LIVENESS_PATH,
    METRICS_PATH,
    READINESS_PATH,
    REQUEST_ID_HEADER,
    error_status,
)
from codec_wire.trace_context import TRACEPARENT_HEADER
from core.engine import client_disconnected
from core.request_record import OK, RequestRecord, current_record
from core.telemetry import Telemetry

log = logging.getLogger(__name__)

_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CLIENT_DISCONNECTED = error_status(errors.Cancelled)
_ERROR_HEADERS = {hdrs.CONTENT_TYPE: "application/json; charset=utf-8", hdrs.CACHE_CONTROL: "no-store"}


def public_code_and_message(error: BaseException) -> tuple[str, str]:
    """Return the error code and the message that clients receive for `error`.

    All internal errors have the same code and the same message.
    """
    if isinstance(error, CodecError) and error_status(type(error)) != HTTPStatus.INTERNAL_SERVER_ERROR:
        return error.code, error.message
    return CodecError.code, INTERNAL_TEXT


def error_detail(error: BaseException) -> ErrorDetail:
    """Return the description of `error` that clients receive.

    The description does not include the text of an internal error.
    """
    status = error_status(type(error))
    code, message = public_code_and_message(error)
    if not isinstance(error, CodecError) or status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return _detail(status, message, code)
    extra: dict[str, Any] = {}
    if isinstance(error, errors.UnsupportedModality):
        extra["supported_modalities"] = list(error.supported)
    return _detail(status, message, code, param=error.field, extra=extra)


def error_response(error: BaseException) -> web.Response:
    """Return the response for `error`, in the format of OpenAI's API.

    The response omits the text of an internal error.
    """
    headers: dict[str, str] = {}
    if isinstance(error, errors.RetryableError):
        headers[hdrs.RETRY_AFTER] = str(error.retry_after_s)
    if isinstance(error, errors.Unauthenticated):
        headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    return _response(error_status(type(error)), error_detail(error), headers)


def malformed_request_response(error: BaseException, message: str) -> web.Response:
    """Return the response to a request that aiohttp's parser rejected with the exception `error`.

    `message` is the text of the exception `error`.
    """
    if isinstance(error, LineTooLong):
        if error.args[1] == MAX_LINE_BYTES:
            status, part, limit = HTTPStatus.REQUEST_URI_TOO_LONG, "line", MAX_LINE_BYTES
        else:
            status, part, limit = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "header", MAX_HEADER_BYTES
        message = f"the request {part} must have at most {limit} bytes"
        return _response(status, _detail(status, message, errors.TooLarge.code))
    reason = message.partition("\n")[0].rstrip(":")
    return error_response(errors.InvalidRequest("request", f"is not valid HTTP: {truncated_repr(reason)}"))


def _detail(
    status: int, message: str, code: str, *, param: str | None = None, extra: dict[str, Any] | None = None
) -> ErrorDetail:
    error_type = _OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return ErrorDetail(message=message, type=error_type, param=param, code=code, **(extra or {}))


def _response(status: int, detail: ErrorDetail, headers: dict[str, str] | None = None) -> web.Response:
    body = ErrorResponse(error=detail).model_dump_json(exclude_unset=True)
    return web.Response(body=body.encode(), status=status, headers=_ERROR_HEADERS | (headers or {}))


PROBE_PATHS = (LIVENESS_PATH, READINESS_PATH, HEALTH_PATH, CODEC_HEALTH_PATH, METRICS_PATH)
"""Paths that load balancers and Prometheus request every few seconds.

Requests for the paths in PROBE_PATHS are logged at level DEBUG.
"""

OPERATIONS = {
    **dict.fromkeys((*GENERATION_PATHS.values(), EDITS_PATH), "generate"),
    DECODE_PATH: "decode",
    ENCODE_PATH: "encode",
    HF_DECODE_PATH: "decode_tensor",
    HF_ENCODE_PATH: "encode_tensor",
}
"""Name of the operation for each path whose requests run a model.

The metrics count only requests for the paths in OPERATIONS.
"""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def error_boundary(telemetry: Telemetry) -> Middleware:
    """Return a middleware that converts exceptions to error responses, and reports every request when it ends."""

    @web.middleware
    async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
        path = request.path
        operation = OPERATIONS.get(path) if request.method == hdrs.METH_POST else None
        record = telemetry.begin(
            "http",
            f"{request.method} {request.raw_path}",
            operation,
            request_id=request.headers.get(REQUEST_ID_HEADER),
            traceparent=request.headers.get(TRACEPARENT_HEADER),
        )
        record.peer = request.remote or ""
        try:
            response = await _handle(request, handler, record)
            _record_response(record, response)
        except asyncio.CancelledError:
            record.fail(client_disconnected())
            raise
        except ConnectionResetError:
            # The client disconnected while the response was written, so this error response is never sent.
            record.fail(client_disconnected())
            return web.Response(status=_CLIENT_DISCONNECTED)
        else:
            return response
        finally:
            if not record.status:  # the client disconnected, maybe after it had received the complete response
                record.status = str(HTTPStatus.OK.value if record.completed else _CLIENT_DISCONNECTED)
            telemetry.end(record, level=logging.DEBUG if path in PROBE_PATHS else logging.INFO)

    return handle


def _record_response(record: RequestRecord, response: web.StreamResponse) -> None:
    record.status = str(response.status)
    if isinstance(response, web.Response) and isinstance(response.body, bytes):  # the handler wrote any other body
        record.bytes_out = len(response.body)
    if response.status >= HTTPStatus.BAD_REQUEST and record.outcome == OK:
        record.fail_with(_code_of(response.status), response.reason or "")


def _code_of(status: int) -> str:
    return HTTPStatus(status).phrase.lower().replace(" ", "_")


async def add_request_id(_request: web.Request, response: web.StreamResponse) -> None:
    """Add the id of the request to every response of the application."""
    response.headers[REQUEST_ID_HEADER] = current_record().request_id


async def _handle(request: web.Request, handler: Handler, record: RequestRecord) -> web.StreamResponse:
    try:
        return await handler(request)
    except ConnectionResetError:
        raise
    except web.HTTPException as error:
        # Raised by aiohttp itself, e.g. 404 for an unknown path or 405 for an unsupported method.
        code, message = _code_of(error.status), f"{request.method} {request.path}: {error.reason}"
        record.fail_with(code, message)
        response = _response(error.status, _detail(error.status, message, code))
        if hdrs.ALLOW in error.headers:
            response.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
        return response
    except Exception as error:
        record.fail(error)
        if not isinstance(error, CodecError):
            log.exception("%s %s failed", request.method, request.raw_path)
        elif error_status(type(error)) == HTTPStatus.INTERNAL_SERVER_ERROR:
            name = type(error).__name__
            log.error("%s %s failed: %s: %s", request.method, request.raw_path, name, error)  # noqa: TRY400
        return error_response(error)
