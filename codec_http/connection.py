"""One HTTP connection, and the server object that creates connections. They extend those of aiohttp."""

import asyncio
import logging
from http import HTTPStatus
from typing import Any

from aiohttp import web

from codec_http.cors import add_cors_headers
from codec_http.errors import error_response, malformed_request_response
from codec_http.header_limit import MAX_HEADER_BYTES, MAX_LINE_BYTES, LimitedRequestParser

log = logging.getLogger(__name__)


class Connection(web.RequestHandler):
    """An HTTP connection on which requests that cannot be parsed get the same error responses as all others."""

    __slots__ = ()

    def __init__(self, server: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # the application logs requests
            auto_decompress=False,  # its decompressors have no dictionaries: see request_body and received_body
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_HEADER_BYTES,
        )
        self._parser: Any = LimitedRequestParser(self._parser)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the response for an error outside of the application: almost always, bytes that are not HTTP."""
        if request.writer.output_size > 0:
            raise ConnectionError("the response was started, so the error cannot be sent")
        if status == HTTPStatus.BAD_REQUEST and exc is not None:
            response = malformed_request_response(exc, message or "")
            log.info("HTTP %s: request from %s cannot be parsed", response.status, request.remote)
        else:
            log.error("a request from %s failed outside of the application", request.remote, exc_info=exc)
            response = error_response(exc or RuntimeError())
        add_cors_headers(response)
        response.force_close()
        return response


class ConnectionServer(web.Server):
    """The factory of connections for an application."""

    def __call__(self) -> Connection:
        """Return a protocol for a new connection."""
        return Connection(self, self._loop)


class ConnectionRunner(web.AppRunner):
    """Runner whose server creates connections of the class Connection."""

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        # handler_cancellation is off by default; without it, a disconnect would not cancel the generation.
        return ConnectionServer(
            server.request_handler, request_factory=server.request_factory, handler_cancellation=True
        )
