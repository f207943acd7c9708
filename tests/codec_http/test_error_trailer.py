"""The trailer Codec-Error of a stream that failed after its header."""

import asyncio
import json

import pytest

from codec_wire import WireFormat
from codec_wire.errors import OutOfMemory
from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import IMAGES, LATENTS
from tests.support.serving import Servers, read_stream, run_servers


async def exchange(servers: Servers, headers: str = "", **fields: object) -> tuple[str, bytes, str]:
    """Send a generation request with `headers`; return the response's header, its body and its trailer section."""
    body = json.dumps(LATENTS | fields).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", servers.http_port)
    head = f"POST {IMAGES} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    head += "Content-Type: application/json\r\n"
    writer.write(f"{head}{headers}\r\n".encode() + body)
    async with asyncio.timeout(10):
        header = (await reader.readuntil(b"\r\n\r\n")).decode()
        chunks = b""
        while size := int(await reader.readline(), 16):
            chunks += await reader.readexactly(size)
            assert await reader.readexactly(2) == b"\r\n"
        trailers = ""
        while (line := (await reader.readline()).decode()) != "\r\n":
            trailers += line
        # The connection is ready for the next request.
        writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    writer.close()
    return header, chunks, trailers


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OutOfMemory("too little memory: 100 %"), "Codec-Error: out_of_memory: too little memory: 100 %25\r\n"),
        (RuntimeError("secret"), "Codec-Error: internal: internal error; the server's log has the reason\r\n"),
    ],
)
async def test_failed_stream_has_the_reason_in_a_trailer(error: Exception, expected: str) -> None:
    engine = FakeEngine(free_running=True)
    async with run_servers(engine) as servers:
        header, complete, trailers = await exchange(servers, "TE: gzip;q=0.5, Trailers\r\n")
        assert "\r\nTrailer: Codec-Error\r\n" in header
        assert trailers == ""
        engine.fail_with = error
        _, body, trailers = await exchange(servers, "TE: trailers\r\n")
        assert trailers == expected
        assert read_stream(body, WireFormat.MSGPACK)[1][-1].finish_reason == "error"
        header, body_without, trailers = await exchange(servers)
        assert (body_without, trailers) == (body, "")
        assert "Trailer" not in header
        assert read_stream(complete, WireFormat.MSGPACK)[1][-1].finish_reason == "ok"
