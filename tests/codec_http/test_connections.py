"""Connections: time limits, limits on their number, errors of accept(), and clients that close only their own side."""

import asyncio
import errno
import http.client
import json
import logging
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import Any

import pytest

from codec_http import connection, connection_limits, listener
from codec_http.connection_limits import RESERVED_FILES, ConnectionLimits
from codec_http.rate_limited_log import RateLimitedLog
from codec_http.server import start_http_server
from codec_wire import WireFormat
from core.admission import Admission
from core.lifecycle import Lifecycle, State
from core.service import LatentService
from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import IMAGES, JSON, request_head
from tests.support.raw_http import exchange
from tests.support.rendering import RENDERING
from tests.support.serving import read_stream, run_servers

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
GENERATION = b'{"prompt": "x", "stream_format": "msgpack", "size": "64x64", "steps": 2}'
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def post(body: bytes, version: str = "1.1") -> bytes:
    return request_head(IMAGES, len(body), version) + body


@asynccontextmanager
async def connect(port: int, data: bytes = b"", source: str = "127.0.0.1") -> AsyncIterator[Stream]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    writer.write(data)
    try:
        yield reader, writer
    finally:
        writer.close()


@asynccontextmanager
async def server_with(limits: ConnectionLimits) -> AsyncIterator[int]:
    """Run an HTTP server with these limits and yield its port."""
    service = LatentService(Lifecycle(), Admission(8, 10**12))
    service.lifecycle.transition_to(State.SERVING)
    server = await start_http_server(service, "127.0.0.1", 0, 60, limits=limits)
    try:
        yield server.port
    finally:
        await server.stop()


async def is_closed(stream: Stream) -> bool:
    async with asyncio.timeout(10):
        try:
            return await stream[0].read() == b""
        except ConnectionResetError:
            return True


async def is_alive(stream: Stream) -> bool:
    stream[1].write(LIVEZ)
    async with asyncio.timeout(10):
        try:
            return (await stream[0].readuntil(b"serving\n")).startswith(b"HTTP/1.1 200 ")
        except (ConnectionResetError, asyncio.IncompleteReadError):
            return False


async def test_connection_without_a_request_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "IDLE_TIMEOUT_S", 0.05)
    async with run_servers(FakeEngine()) as servers:
        async with connect(servers.http_port) as idle:
            assert await is_closed(idle)
        async with connect(servers.http_port, LIVEZ) as used:
            async with asyncio.timeout(10):
                assert (await used[0].readuntil(b"serving\n")).startswith(b"HTTP/1.1 200 ")
            assert await is_closed(used)


@pytest.mark.parametrize("before", [b"", LIVEZ])
async def test_header_that_does_not_end_in_time_closes_the_connection(
    before: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEADER_TIMEOUT_S", 0.2)
    async with run_servers(FakeEngine()) as servers, connect(servers.http_port, before + LIVEZ[:-2]) as stream:
        reader, writer = stream
        if before:
            async with asyncio.timeout(10):
                await reader.readuntil(b"serving\n")
        closed = asyncio.create_task(is_closed(stream))
        while not closed.done():
            writer.write(b"X: y\r\n")  # does not extend the time
            await asyncio.sleep(0.02)
        assert await closed


async def test_request_after_a_complete_header_has_no_header_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEADER_TIMEOUT_S", 0.05)
    engine = FakeEngine()
    async with run_servers(engine) as servers, connect(servers.http_port, LIVEZ[:20]) as (reader, writer):
        writer.write(LIVEZ[20:] + post(GENERATION))
        await engine.wait_until_started(1)
        await asyncio.sleep(0.1)
        engine.release_steps(2)
        async with asyncio.timeout(10):
            assert b"finish_reason\xa2ok" in await reader.readuntil(b"\r\n0\r\n\r\n")


async def test_silent_connection_is_closed_for_a_new_one_at_the_limit_of_the_process() -> None:
    async with server_with(ConnectionLimits(3, 3)) as port, AsyncExitStack() as stack:
        first, second, third = [await stack.enter_async_context(connect(port)) for _ in range(3)]
        for stream in (first, second, third, first):  # `second` has been silent for longest
            assert await is_alive(stream)
        fourth = await stack.enter_async_context(connect(port))
        assert await is_alive(fourth)
        assert not await is_alive(second)
        assert await is_alive(third)


async def test_limit_per_address_does_not_affect_other_addresses() -> None:
    async with server_with(ConnectionLimits(100, 2)) as port, AsyncExitStack() as stack:
        other = await stack.enter_async_context(connect(port, LIVEZ[:-2], source="127.0.0.2"))
        idle = [await stack.enter_async_context(connect(port)) for _ in range(5)]
        for stream in idle[:3]:
            assert await is_closed(stream)
        for stream in idle[3:]:
            assert await is_alive(stream)
        other[1].write(b"\r\n")
        async with asyncio.timeout(10):
            assert (await other[0].readline()).startswith(b"HTTP/1.1 200 ")


async def test_connection_is_refused_if_all_others_are_busy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection_limits, "log", RateLimitedLog(logging.getLogger("limits")))
    engine = FakeEngine()
    async with run_servers(engine) as servers:
        limits = ConnectionLimits(2, 2)
        server = await start_http_server(servers.service, "127.0.0.1", 0, 60, limits=limits)
        async with connect(server.port, post(GENERATION)), connect(server.port, post(GENERATION)):
            await engine.wait_until_started(2)
            for _ in range(20):
                async with connect(server.port) as refused:
                    assert await is_closed(refused)
            assert engine.closed == 0
        await engine.wait_until_ended(2)
        async with connect(server.port) as stream:
            assert await is_alive(stream)
        await server.stop()
    assert 1 <= caplog.text.count("the limit") <= 3  # at most once a second


def test_limit_leaves_file_descriptors_to_the_rest_of_the_process() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        for files, expected in ((1024, 1024 - RESERVED_FILES), (256, 128), (100, 50)):
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
            assert ConnectionLimits(10_000, 1).max_connections == expected
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_errors_of_accept_are_logged_once_a_second_and_do_not_end_the_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listener, "RETRY_S", 0.001)
    monkeypatch.setattr(listener, "log", RateLimitedLog(logging.getLogger("listener")))
    accept, failures = socket.socket.accept, 0

    def fail(listening: socket.socket) -> Any:
        nonlocal failures
        if failures == 50:
            return accept(listening)
        failures += 1
        raise OSError(errno.EMFILE, "Too many open files")

    async with server_with(ConnectionLimits(10, 10)) as port:
        monkeypatch.setattr(socket.socket, "accept", fail)
        async with connect(port) as stream:
            assert await is_alive(stream)
    assert failures == 50
    assert caplog.text.count("HTTP connections cannot be accepted: Too many open files") == 1
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_client_that_closes_only_its_own_side_gets_the_response(version: str) -> None:
    engine = FakeEngine(free_running=True)
    async with (
        run_servers(engine) as servers,
        connect(servers.http_port, post(GENERATION, version)) as (reader, writer),
    ):
        writer.write_eof()
        async with asyncio.timeout(10):
            assert b"finish_reason\xa2ok" in await reader.read()


async def test_half_closed_connection_gets_all_pipelined_responses() -> None:
    async with run_servers(FakeEngine()) as servers:
        responses = await exchange(servers, LIVEZ * 3, half_close=True)
        assert [response.body for response in responses] == [b"serving\n"] * 3


@pytest.mark.parametrize("chunks", [4096, 4097, 4098])
async def test_request_after_a_body_of_many_chunks_is_answered(chunks: int) -> None:
    # aiohttp pauses its parser after 4096 chunks, and at the end of the body it resumes only the connection.
    head = f"POST {IMAGES} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    body = b"1\r\n{\r\n" + b"1\r\n \r\n" * (chunks - 2) + b"1\r\n}\r\n0\r\n\r\n"
    chunked = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + body
    async with run_servers(FakeEngine()) as servers:
        responses = await exchange(servers, chunked + post(b"{}"))
        assert [response.status for response in responses] == [400, 400]


async def test_many_requests_that_are_sent_at_once_after_a_late_body_are_answered() -> None:
    async with run_servers(FakeEngine()) as servers, connect(servers.http_port) as (reader, writer):
        writer.write(request_head(IMAGES, 2))
        await asyncio.sleep(0.1)  # the server handles the request before its body is received
        writer.write(b"{}" + post(b"{}") * 59)
        async with asyncio.timeout(10):
            for _ in range(60):
                assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 400 ")
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                (length,) = (line.split(":")[1] for line in head.splitlines() if line.startswith("content-length:"))
                await reader.readexactly(int(length))


async def test_half_closed_client_gets_the_response_to_a_generation_that_waits() -> None:
    engine = FakeEngine()
    async with run_servers(engine) as servers, connect(servers.http_port, post(GENERATION)) as (reader, writer):
        writer.write_eof()
        await engine.wait_until_started(1)
        await asyncio.sleep(3 * connection.HALF_CLOSED_INTERVAL_S)
        assert engine.closed == 0
        engine.release_steps(2)
        async with asyncio.timeout(10):
            assert b"finish_reason\xa2ok" in await reader.read()


@pytest.mark.parametrize("fields", [{"stream_format": "msgpack"}, {"modality": "image-latents"}, {}])
async def test_half_closed_response_can_be_parsed(fields: dict[str, str]) -> None:
    """Python's own HTTP client reads the response that contains what the server sends to find a reset."""
    engine = FakeEngine()
    body = json.dumps({"prompt": "x", "size": "64x64", "steps": 2} | fields).encode()
    async with run_servers(engine, RENDERING) as servers:

        def request() -> bytes:
            with closing(http.client.HTTPConnection("127.0.0.1", servers.http_port, timeout=10)) as client:
                client.request("POST", IMAGES, body, JSON)
                client.sock.shutdown(socket.SHUT_WR)
                return client.getresponse().read()

        response = asyncio.create_task(asyncio.to_thread(request))
        await engine.wait_until_started(1)
        await asyncio.sleep(3 * connection.HALF_CLOSED_INTERVAL_S)
        engine.release_steps(2)
        content = await response
        if fields:
            assert read_stream(content, WireFormat.MSGPACK)[1][0].finish_reason == "ok"
        else:
            assert len(json.loads(content)["data"]) == 1


async def test_incomplete_request_of_a_half_closed_connection_is_dropped() -> None:
    async with run_servers(FakeEngine()) as servers:
        for data in (LIVEZ[:-2], post(GENERATION)[:-1]):
            async with connect(servers.http_port, data) as (reader, writer):
                writer.write_eof()
                async with asyncio.timeout(10):
                    assert await reader.read() == b""


async def test_closed_connection_cancels_a_generation_whose_response_has_not_started() -> None:
    engine = FakeEngine()
    body = b'{"prompt": "x", "size": "64x64", "steps": 2}'
    async with run_servers(engine, RENDERING) as servers:
        async with connect(servers.http_port, post(body)):
            await engine.wait_until_started(1)
        await engine.wait_until_ended(1)
        assert (engine.finished, servers.service.admission.jobs) == (0, 0)


def test_rate_limited_log_reports_how_many_warnings_were_left_out(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    log = RateLimitedLog(logging.getLogger("test"))
    now = 10.0
    for number in range(5):
        log.warning("number %d", number)
    now = 11.5
    log.warning("number %d", 5)
    assert [record.message for record in caplog.records] == ["number 0", "number 5 (and 4 more such warnings)"]
