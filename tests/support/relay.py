"""A TCP relay in front of a server, whose connections a test can cut."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from codec_client.event_loop_thread import EventLoopThread

CHUNK_BYTES = 64 * 1024


class Relay:
    """Forwards connections to a server, HOST:PORT. It runs in a separate thread."""

    def __init__(self, server: str) -> None:
        self._host, _, port = server.rpartition(":")
        self._port = int(port)
        self._thread = EventLoopThread()
        self._writers: set[asyncio.StreamWriter] = set()
        self._listener = self._thread.run(self._listen())

    @property
    def address(self) -> str:
        """HOST:PORT of the relay."""
        host, port = self._listener.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    def cut(self) -> None:
        """Reset all connections. New ones are forwarded."""
        self._thread.run(self._cut())

    def stop(self) -> None:
        """Reset all connections and stop listening."""
        self._thread.run(self._close())
        self._thread.stop()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._forward, "127.0.0.1", 0)

    async def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _close(self) -> None:
        self._listener.close()
        await self._cut()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(self._host, self._port)
        writers = {writer, server_writer}
        self._writers |= writers
        try:
            await asyncio.gather(_copy(reader, server_writer), _copy(server_reader, writer))
        except ConnectionError:
            pass
        finally:
            self._writers -= writers
            for each in writers:
                each.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy bytes until the sender closes its side."""
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    writer.close()


@contextmanager
def run_relay(server: str) -> Iterator[Relay]:
    """Run a relay in front of a server, HOST:PORT."""
    relay = Relay(server)
    try:
        yield relay
    finally:
        relay.stop()
