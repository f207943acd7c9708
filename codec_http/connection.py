"""HTTP connections, and the server object that creates connections.

The classes in this module extend the classes that aiohttp uses for connections and servers.
"""

import asyncio
import logging
import socket
from http import HTTPStatus
from typing import Any

from aiohttp import HttpVersion11, web
from aiohttp.http_writer import StreamWriter
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import _ErrInfo

from codec_http.connection_limits import ConnectionLimits
from codec_http.cors import allow_origin
from codec_http.errors import error_response, malformed_request_response
from codec_http.header_limit import MAX_HEADER_BYTES, MAX_LINE_BYTES, LimitedRequestParser
from codec_http.read_turns import LARGE_PIECE_BYTES, MAX_PIECE_BYTES, ReadTurns

HEADER_TIMEOUT_S = 20.0
"""Maximum time from the first to the last byte of a request header, in seconds."""
IDLE_TIMEOUT_S = 75.0
"""Maximum time to wait for a request on an open connection, in seconds.

A timeout of 75 seconds is longer than the idle timeout of most load balancers.
"""
LINGER_S = 2.0
"""Time in seconds for which the rest of a refused request is received, so that the client receives the response."""
HALF_CLOSED_INTERVAL_S = 0.05
"""Interval in seconds between two checks of a connection after the client has closed its sending side."""

log = logging.getLogger(__name__)


def _probe(request: web.BaseRequest) -> bytes:
    """Return bytes that can be sent now and do not change the meaning of the response to `request`.

    Before the response starts, the bytes are an interim response. Within a chunked response, the bytes are a leading
    zero of the next chunk's size. RFC 9112, section 7.1, allows leading zeros in the size of a chunk. If no bytes can
    be sent without changing the response, the result is empty.
    """
    if request.version < HttpVersion11:
        return b""
    writer = request.writer
    if writer.output_size == 0:
        return b"HTTP/1.1 100 Continue\r\n\r\n"
    return b"0" if isinstance(writer, StreamWriter) and writer.chunked and not writer._eof else b""


class RestOfMalformedRequest(StreamReader):
    """Payload of a malformed request. The payload ends when the client closes the connection.

    After the response, aiohttp waits up to LINGER_S for the end of the payload. If the connection were closed while the
    client still sends data, the operating system would reset the connection, and the client could lose the response.
    """

    async def readany(self) -> bytes:
        """Close the connection for writing, then wait for more data.

        The client detects the end of the response because the connection is closed for writing.
        """
        transport = self._protocol.transport
        if transport is not None and transport.can_write_eof():
            transport.write_eof()
        return await super().readany()


class Connection(web.RequestHandler):
    """An HTTP connection with time limits.

    The response to a request that cannot be parsed has the same format as all other error responses. A client that
    closes the connection for writing after a request still receives the response.
    """

    __slots__ = ("_header_timer", "_is_probed", "_limits", "_rest", "_turns", "_waits_for_turn")

    def __init__(
        self, server: web.Server, loop: asyncio.AbstractEventLoop, limits: ConnectionLimits, turns: ReadTurns
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # the application logs requests
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            keepalive_timeout=IDLE_TIMEOUT_S,
            read_bufsize=MAX_PIECE_BYTES,
            lingering_time=LINGER_S,
            auto_decompress=False,  # aiohttp would decompress without a size limit and without dictionaries
        )
        self._parser: Any = LimitedRequestParser(self._parser)
        self._limits = limits
        self._turns = turns
        self._waits_for_turn = False
        self._header_timer: asyncio.TimerHandle | None = None
        self._is_probed = False
        self._rest: RestOfMalformedRequest | None = None

    @property
    def waits_for_client(self) -> bool:
        """Whether the server waits for a request, or for the rest of an incomplete request. See Evictable."""
        return self._is_idle or self._parser is None or self._parser.in_body

    @property
    def _is_idle(self) -> bool:
        return self._waiter is not None and not self._messages

    def evict(self) -> None:
        """Close the connection and discard data that was not sent yet. See Evictable."""
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection and start its idle timer."""
        super().connection_made(transport)
        transport.max_size = MAX_PIECE_BYTES  # type: ignore[attr-defined]  # of asyncio's own transports
        self._limits.add(self, (transport.get_extra_info("peername") or ("",))[0])

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancel the request that is being handled."""
        self._limits.remove(self)
        self._stop_header_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse `data`. If `data` contains an incomplete header, limit the time until the header is complete."""
        if self._rest is not None:  # the rest of a malformed request is not parsed
            return
        super().data_received(data)
        if self._messages and isinstance(self._messages[-1][0], _ErrInfo):
            self._rest = RestOfMalformedRequest(self, 1, loop=self._loop)
            self._messages[-1] = (self._messages[-1][0], self._rest)
        self._limits.record_activity(self)
        if self._parser is None or not self._parser.header_bytes:
            self._stop_header_timer()
        elif self._header_timer is None:
            self._header_timer = self._loop.call_later(HEADER_TIMEOUT_S, self.evict)
        if len(data) >= LARGE_PIECE_BYTES:
            self._wait_for_turn()

    def _wait_for_turn(self) -> None:
        """Stop receiving data until it is the turn of this connection."""
        if not self._waits_for_turn:
            self._waits_for_turn = True
            self._pause_transport_reading()
            self._turns.wait(self)

    def resume_turn(self) -> None:
        """Receive data again, unless the buffer is full. See Reader."""
        self._waits_for_turn = False
        if not self._reading_paused and not self._buffer_paused:
            self._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        if not self._waits_for_turn:
            super()._resume_transport_reading()

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Return True if the connection must stay open for a response.

        A client that sends no more data has closed either the whole connection or only its sending side. If the whole
        connection is closed, the request must be cancelled. If only the sending side is closed, the client still waits
        for the response. To detect whether the whole connection is closed, the server sends bytes that do not change
        the meaning of the response. If the client has closed the whole connection, the client's operating system
        answers the bytes with a reset, which the server detects. If the server cannot send any bytes without changing
        the response, the server closes the connection.
        """
        if self._rest is not None:
            self._rest.feed_eof()
        transport, request = self.transport, self._current_request
        if transport is None or self.waits_for_client or transport.get_extra_info("sslcontext") is not None:
            return None
        if request is not None and request.writer.output_size > 0 and not _probe(request):
            return None
        self._check_half_closed()
        return True

    def _check_half_closed(self) -> None:
        transport = self.transport
        if transport is None:
            return
        if transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            transport.abort()
        elif self._is_idle:  # the last response was sent
            transport.close()
        else:
            if self._current_request is not None and not self._is_probed:
                transport.write(_probe(self._current_request))
                self._is_probed = True
            self._loop.call_later(HALF_CLOSED_INTERVAL_S, self._check_half_closed)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the response for an error outside of the application, usually for a request that is not valid HTTP."""
        if request.writer.output_size > 0:
            raise ConnectionError("the response was started, so the error cannot be sent")
        if status == HTTPStatus.BAD_REQUEST and exc is not None:
            response = malformed_request_response(exc, message or "")
            log.info("HTTP %s: request from %s cannot be parsed", response.status, request.remote)
        else:
            log.error("a request from %s failed outside of the application", request.remote, exc_info=exc)
            response = error_response(exc or RuntimeError())
        allow_origin(response, "*")  # the response contains only the error
        response.force_close()
        return response


class ConnectionServer(web.Server):
    """Factory that creates a Connection for each client of an application."""

    def __init__(self, server: web.Server, limits: ConnectionLimits) -> None:
        # handler_cancellation is off by default; without it, a disconnect would not cancel the generation.
        super().__init__(server.request_handler, request_factory=server.request_factory, handler_cancellation=True)
        self.limits = limits
        self._turns = ReadTurns(self._loop)

    def __call__(self) -> Connection:
        """Return the asyncio protocol object that handles a new connection."""
        return Connection(self, self._loop, self.limits, self._turns)


class ConnectionRunner(web.AppRunner):
    """An aiohttp AppRunner whose server is a ConnectionServer."""

    def __init__(self, app: web.Application, limits: ConnectionLimits, *, shutdown_timeout: float) -> None:
        super().__init__(app, shutdown_timeout=shutdown_timeout)
        self._limits = limits

    async def _make_server(self) -> ConnectionServer:
        return ConnectionServer(await super()._make_server(), self._limits)

    @property
    def connection_server(self) -> ConnectionServer:
        """The ConnectionServer that the method setup() of this runner has created."""
        assert isinstance(self.server, ConnectionServer)  # noqa: S101 - created by _make_server
        return self.server
