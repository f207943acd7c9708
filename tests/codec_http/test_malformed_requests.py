"""Bytes that are not a valid HTTP request get the same error responses as other requests: JSON with CORS headers."""

import asyncio
import json

import pytest

from codec_http.connection import LINGER_S
from codec_http.header_limit import MAX_HEADER_BYTES, MAX_LINE_BYTES
from tests.support.fake_engine import FakeEngine
from tests.support.raw_http import exchange
from tests.support.serving import run_servers

GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
FIELD = b"Cookie: " + b"c" * 1000 + b"\r\n"


def header_of(size: int) -> bytes:
    """Return a request header of exactly `size` bytes, with fields of at most 1,010 bytes."""
    fields = (size - len(GET) - 2) // len(FIELD) - 1
    start = GET + FIELD * fields
    return start + b"Padding: " + b"p" * (size - len(start) - len(b"Padding: \r\n\r\n")) + b"\r\n\r\n"


MALFORMED = {
    "not HTTP": (b"hello\r\n\r\n", 400, "invalid_request"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "invalid_request"),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400, "invalid_request"),
    "unknown version": (b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", 400, "invalid_request"),
    "NUL in a header": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: \0\r\n\r\n", 400, "invalid_request"),
    "two lengths": (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        400,
        "invalid_request",
    ),
    "too many fields": (GET + b"X: y\r\n" * 200 + b"\r\n", 400, "invalid_request"),
    "long request line": (b"GET /" + b"a" * MAX_LINE_BYTES + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414, "too_large"),
    "long field": (GET + b"Cookie: " + b"c" * 2 * MAX_HEADER_BYTES + b"\r\n\r\n", 431, "too_large"),
    "long field name": (GET + b"c" * 2 * MAX_HEADER_BYTES + b": c\r\n\r\n", 431, "too_large"),
    "long header": (header_of(MAX_HEADER_BYTES + 1), 431, "too_large"),
}


@pytest.mark.parametrize("fault", MALFORMED)
async def test_malformed_request_gets_a_json_error_with_cors_headers(fault: str) -> None:
    data, status, code = MALFORMED[fault]
    async with run_servers(FakeEngine()) as servers:
        for start in (b"", GET + b"\r\n"):  # as the first request of a connection, and as a later one
            *_, response = await exchange(servers, start + data)
            assert response.status == status
            assert response.headers["access-control-allow-origin"] == "*"
            assert "Codec-Latent-Map" in response.headers["access-control-expose-headers"]
            assert response.headers["content-type"].startswith("application/json")
            error = json.loads(response.body)["error"]
            assert (error["code"], error["type"]) == (code, "invalid_request_error")
            assert "\n" not in error["message"]


@pytest.mark.slow
async def test_header_of_the_maximum_size_is_accepted() -> None:
    async with run_servers(FakeEngine()) as servers:
        for data in (header_of(MAX_HEADER_BYTES), header_of(MAX_HEADER_BYTES) * 3):
            assert {response.status for response in await exchange(servers, data)} == {200}


async def test_header_that_never_ends_is_rejected_while_it_is_sent() -> None:
    endless = GET + FIELD * (MAX_HEADER_BYTES // len(FIELD) + 1)
    async with run_servers(FakeEngine()) as servers:
        assert [response.status for response in await exchange(servers, endless)] == [431]


async def test_log_has_one_line_without_traceback_for_a_malformed_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with run_servers(FakeEngine()) as servers:
        await exchange(servers, MALFORMED["not HTTP"][0])
    records = [record for record in caplog.records if "cannot be parsed" in record.message]
    assert len(records) == 1
    assert records[0].exc_info is None
    assert "127.0.0.1" in records[0].message
    assert "Traceback" not in caplog.text


async def test_response_is_not_lost_while_the_client_still_sends_the_refused_request() -> None:
    async with run_servers(FakeEngine()) as servers:
        reader, writer = await asyncio.open_connection("127.0.0.1", servers.http_port)
        try:
            writer.write(GET + b"Cookie: " + b"c" * 2 * MAX_HEADER_BYTES)
            await writer.drain()
            for _ in range(20):
                await asyncio.sleep(0.005)  # so that the server has refused the request and closed the connection
                writer.write(b"c" * 4096)
                await writer.drain()
            async with asyncio.timeout(LINGER_S / 2):
                assert (await reader.read()).split(b" ")[1] == b"431"
        finally:
            writer.close()


def generation_that_expects(expectation: str) -> bytes:
    """Return the HTTP header of a generation request with a body of two bytes and the header Expect."""
    lines = ("POST /v1/images/generations HTTP/1.1", "Host: localhost", "Content-Type: application/json")
    return "\r\n".join((*lines, f"Expect: {expectation}", "Content-Length: 2", "", "")).encode()


async def test_unknown_expectation_is_ignored() -> None:
    async with run_servers(FakeEngine()) as servers:
        (response,) = await exchange(servers, generation_that_expects("tea") + b"{}")
    assert response.status == 400
    assert json.loads(response.body)["error"]["param"] == "prompt"
    assert "x-request-id" in response.headers


async def test_body_is_requested_from_a_client_that_waits_for_it() -> None:
    async with run_servers(FakeEngine()) as servers:
        reader, writer = await asyncio.open_connection("127.0.0.1", servers.http_port)
        try:
            writer.write(generation_that_expects("100-Continue"))
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"{}")
            assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
        finally:
            writer.close()
