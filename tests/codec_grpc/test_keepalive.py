"""Keepalive pings of gRPC clients: allowed as often as the server's options state, and rejected if more frequent.

The tests send HTTP/2 frames themselves, because gRPC clients ping at most once per second, and shorten the server's
minimum interval between pings.
"""

import asyncio

import pytest

from codec_grpc.server import SERVER_OPTIONS
from tests.support.serving import grpc_server

pytestmark = pytest.mark.slow

MIN_PING_INTERVAL = "grpc.http2.min_ping_interval_without_data_ms"
# RFC 9113, sections 3.4 and 6: connection preface, frame header (length, type, flags, stream), frame types.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
EMPTY_SETTINGS = bytes.fromhex("000000 04 00 00000000")
PING = bytes.fromhex("000008 06 00 00000000") + bytes(8)
PING_TYPE, GOAWAY_TYPE = 6, 7
ACK = 1


async def send_pings(address: str, count: int, interval_s: float) -> tuple[int, bytes]:
    """Send up to `count` pings, each `interval_s` after the reply to the previous one, on a connection without calls.

    Returns the number of replies, and the reason if the server closed the connection.
    """
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(PREFACE + EMPTY_SETTINGS + PING)
    replies, reason = 0, b""
    async with asyncio.timeout(10):
        while replies < count and not reason:
            header = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(header[:3], "big"))
            if header[3] == GOAWAY_TYPE:
                reason = payload[8:]
            elif header[3] == PING_TYPE and header[4] == ACK:
                replies += 1
                await asyncio.sleep(interval_s)
                writer.write(PING)
    writer.close()
    return replies, reason


async def pings_with_interval(milliseconds: int) -> tuple[int, bytes]:
    """Send 8 pings, 0.06 s apart, to a server whose minimum interval between pings has this length. See send_pings."""
    assert dict(SERVER_OPTIONS)[MIN_PING_INTERVAL] == 10_000
    async with grpc_server({MIN_PING_INTERVAL: milliseconds}) as server:
        return await send_pings(f"127.0.0.1:{server.port}", 8, 0.06)


async def test_pings_without_calls_are_answered_if_not_more_frequent_than_allowed() -> None:
    assert await pings_with_interval(40) == (8, b"")


async def test_too_frequent_pings_close_the_connection() -> None:
    replies, reason = await pings_with_interval(60_000)
    assert replies < 8
    assert reason == b"too_many_pings"
