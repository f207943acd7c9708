"""Exchange of raw bytes with the tests' HTTP server, for requests that HTTP clients refuse to send."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from tests.support.serving import Servers

TIMEOUT_S = 10
"""Time after which a missing response fails the test."""


@dataclass(frozen=True, slots=True)
class RawResponse:
    """A response with a Content-Length: status, headers with names in lower case, and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def exchange(servers: Servers, data: bytes, *, half_close: bool = False) -> list[RawResponse]:
    """Send `data` on one connection, which `half_close` closes for writing, and return all final responses.

    Ends when the server closes the connection or is silent for half a second after the first response.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", servers.http_port)
    try:
        writer.write(data)
        if half_close:
            writer.write_eof()
        received = bytearray()
        async with asyncio.timeout(TIMEOUT_S):
            while chunk := await _read(reader, wait=not received):
                received += chunk
        return _parse(bytes(received))
    finally:
        writer.close()


async def _read(reader: asyncio.StreamReader, *, wait: bool) -> bytes:
    try:
        async with asyncio.timeout(None if wait else 0.5):
            return await reader.read(2**16)
    except TimeoutError:
        return b""


def _parse(data: bytes) -> list[RawResponse]:
    """Return the responses in `data`, without interim responses (1xx)."""
    responses = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", "0"))
        status = int(first.split()[1])
        if status >= 200:
            responses.append(RawResponse(status, headers, data[:length]))
        data = data[length:]
    return responses
