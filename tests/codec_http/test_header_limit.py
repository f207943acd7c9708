"""The size limit of a header that is received in two pieces, after another request."""

import asyncio

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import HttpRequestParser

from codec_http.header_limit import MAX_HEADER_BYTES, LimitedRequestParser

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n"
FIELD = b"Cookie: " + b"c" * 1000 + b"\r\n"
MAX_FIELDS = (MAX_HEADER_BYTES - len(GET) - 2) // len(FIELD)
BEFORE = {
    "in a separate piece": ([POST, b"body"], b""),
    "in the piece with the end of a body": ([POST], b"body"),
    "in the piece with the end of a header": ([], GET + b"\r\n"),
}
"""Pieces of data before the header, and the start of the piece in which the header starts."""


async def parse(pieces: list[bytes], start: bytes, fields: int) -> int:
    """Parse `pieces`, and then a header with `fields` fields in two pieces. Return the number of parsed requests."""
    loop = asyncio.get_running_loop()
    raw = HttpRequestParser(BaseProtocol(loop), loop, 2**16, max_field_size=MAX_HEADER_BYTES)
    parser = LimitedRequestParser(raw)
    first = fields // 2
    data = [*pieces, start + GET + FIELD * first, FIELD * (fields - first) + b"\r\n"]
    return sum(len(parser.feed_data(piece)[0]) for piece in data)


@pytest.mark.parametrize("case", BEFORE)
async def test_header_after_another_request_has_the_same_limit(case: str) -> None:
    pieces, start = BEFORE[case]
    assert await parse(pieces, start, MAX_FIELDS) == 2
    with pytest.raises(LineTooLong):
        await parse(pieces, start, MAX_FIELDS + 1)
