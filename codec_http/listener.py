"""Acceptance of HTTP connections, with limits on the number of connections."""

import asyncio
import logging
import socket
import ssl
from functools import partial

from codec_http.connection import HEADER_TIMEOUT_S, ConnectionServer
from codec_http.rate_limited_log import RateLimitedLog

BACKLOG = 1024
"""Maximum number of connections that wait in the kernel until the server accepts them.

If more clients connect, the kernel drops their packets, and the clients send the packets again after 1, 3 and 7
seconds.
"""
RETRY_S = 0.5
"""Time in seconds between two attempts to accept a connection, after an error such as a lack of file descriptors."""

log = RateLimitedLog(logging.getLogger(__name__))


class Listener:
    """The listening sockets of a server.

    This class replaces asyncio's own server, which does not limit the number of connections. If the process runs out of
    file descriptors, asyncio's server logs a traceback for every attempt to accept a connection.
    """

    def __init__(
        self, server: ConnectionServer, sockets: list[socket.socket], tls: ssl.SSLContext | None = None
    ) -> None:
        self._server = server
        self._sockets = sockets
        self._tls = tls
        self._connecting: set[asyncio.Task[None]] = set()
        for listening in sockets:
            self._watch(listening)

    @classmethod
    async def open(
        cls, server: ConnectionServer, host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> "Listener":
        """Listen on `host`:`port`. Port 0 selects a free port. `tls` is the context of an https server.

        Raises OSError if the address is not available.
        """
        loop = asyncio.get_running_loop()
        # This server only binds the sockets. Their duplicates stay bound after it is closed.
        bound = await loop.create_server(server, host, port, start_serving=False)
        sockets = [socket.fromfd(found.fileno(), found.family, found.type) for found in bound.sockets]
        bound.close()
        try:
            for listening in sockets:
                listening.setblocking(False)
                listening.listen(BACKLOG)
        except OSError:
            for listening in sockets:
                listening.close()
            raise
        return cls(server, sockets, tls)

    @property
    def port(self) -> int:
        """Number of the port on which the first socket listens."""
        port: int = self._sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Stop accepting new connections. Existing connections stay open."""
        for listening in self._sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
            listening.close()
        tasks = tuple(self._connecting)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _watch(self, listening: socket.socket) -> None:
        # Not loop.sock_accept: a connection that is accepted while its task is cancelled would never be closed.
        if listening.fileno() >= 0:  # the socket has not been closed
            asyncio.get_running_loop().add_reader(listening.fileno(), self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        """Accept one connection on the socket `listening`.

        The event loop calls this method again if more connections are waiting.
        """
        loop = asyncio.get_running_loop()
        try:
            accepted, address = listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            log.warning("HTTP connections cannot be accepted: %s", error.strerror or error)
            loop.remove_reader(listening.fileno())
            loop.call_later(RETRY_S, self._watch, listening)
            return
        accepted.setblocking(False)
        limits = self._server.limits
        if len(self._connecting) < limits.max_connections // 2 and limits.make_room(address[0]):
            task = loop.create_task(self._connect(accepted))
            self._connecting.add(task)
            task.add_done_callback(partial(self._connected, accepted))
        else:
            accepted.close()

    def _connected(self, accepted: socket.socket, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        if task.cancelled():
            accepted.close()

    async def _connect(self, accepted: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._server,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else HEADER_TIMEOUT_S,
            )
        except OSError as error:  # the client disconnected, or the TLS handshake failed
            logging.getLogger(__name__).debug("a connection was closed before it was established: %s", error)
            accepted.close()
