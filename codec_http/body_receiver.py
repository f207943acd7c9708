"""Reception of request bodies.

This module limits the size of each body, the time to receive each body, and the total memory of all bodies.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiohttp import hdrs, web

from codec_http.file_field import MAX_BASE64_CHARACTERS, MAX_FILES
from codec_http.json_body import MAX_JSON_BYTES
from codec_http.read_turns import MAX_PIECE_BYTES
from codec_wire.errors import InvalidRequest, RequestTimeout, TooLarge, UnsupportedCoding, truncated_repr
from core.request_memory import Reservation

MAX_BODY_BYTES = MAX_JSON_BYTES + MAX_FILES * MAX_BASE64_CHARACTERS
"""Maximum size of a request body in bytes. The limit includes all files and the JSON around the files."""
BODY_TIMEOUT_S = 120.0
"""Maximum time to receive a body, in seconds."""
PAUSE_TIMEOUT_S = 20.0
"""Maximum time between two pieces of a body, in seconds."""


class Body:
    """A received request body.

    The body is stored in pieces until it is complete. A single growing buffer would be copied to a new place in memory
    several times. After each copy of the growing buffer, the memory at the old place would not be returned to the
    operating system.
    """

    def __init__(self) -> None:
        self.size = 0
        """Number of bytes of the body that were received so far."""
        self._pieces: list[bytearray] = []

    def append(self, piece: bytes) -> None:
        """Add received bytes. Small pieces are combined, because every object takes additional memory."""
        self.size += len(piece)
        if self._pieces and len(self._pieces[-1]) + len(piece) <= MAX_PIECE_BYTES:
            self._pieces[-1] += piece
        else:
            self._pieces.append(bytearray(piece))

    def take(self) -> bytes:
        """Return the body and free the received pieces.

        Call this method only once, because a second call returns no data.
        """
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


async def receive_body(request: web.Request, reservation: Reservation) -> Body:
    """Return the body of `request`. While the body is received, its size is added to `reservation`.

    Raises InvalidRequest if the body is incomplete, and UnsupportedCoding if the body is compressed. Raises TooLarge if
    the body exceeds MAX_BODY_BYTES. Raises RequestTimeout if the body is received too slowly, and Overloaded if the
    memory for all bodies is used up.
    """
    _require_no_transfer_coding(request)
    coding = request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip()
    if coding.lower() not in ("identity", ""):
        raise UnsupportedCoding(f"Content-Encoding of a request must be identity, got {truncated_repr(coding)}")
    content, size = request.content, request.content_length or 0
    _require_size(size)
    reservation.require(size)
    body = Body()
    try:
        if content.is_eof():  # already received together with the header, like most small bodies
            body.append(content.read_nowait())
            reservation.grow(body.size)
        else:
            async with aclosing(body_pieces(request)) as pieces:
                async for piece in pieces:
                    _require_size(body.size + len(piece))
                    reservation.grow(len(piece))
                    body.append(piece)
    except web.RequestPayloadError:
        raise InvalidRequest("body", "is incomplete or not correctly chunked") from None
    return body


async def body_pieces(request: web.Request) -> AsyncGenerator[bytes, None]:
    """Yield each piece of the body of `request` as soon as the piece is received.

    Raises aiohttp's RequestPayloadError if the body is incomplete. Raises UnsupportedCoding if Transfer-Encoding names
    a compression, and RequestTimeout if the body is received too slowly.
    """
    _require_no_transfer_coding(request)
    loop = asyncio.get_running_loop()
    end, received = loop.time() + BODY_TIMEOUT_S, 0
    while True:
        try:
            async with asyncio.timeout_at(min(end, loop.time() + PAUSE_TIMEOUT_S)):
                piece = await request.content.readany()
        except TimeoutError:
            raise RequestTimeout(
                f"the request body must be complete within {BODY_TIMEOUT_S:g} s and have no pauses of "
                f"{PAUSE_TIMEOUT_S:g} s; only {received} bytes were received"
            ) from None
        if not piece:
            return
        received += len(piece)
        yield piece


def _require_no_transfer_coding(request: web.Request) -> None:
    """Raise UnsupportedCoding if Transfer-Encoding names a compression, such as "gzip, chunked".

    Without this check, aiohttp would ignore the compression in Transfer-Encoding and return the compressed bytes.
    """
    coding = ", ".join(request.headers.getall(hdrs.TRANSFER_ENCODING, ["chunked"]))
    if coding.strip().lower() != "chunked":
        raise UnsupportedCoding(f"Transfer-Encoding of a request must be chunked, got {truncated_repr(coding)}")


def _require_size(size: int) -> None:
    if size > MAX_BODY_BYTES:
        raise TooLarge(f"the request body must have at most {MAX_BODY_BYTES} bytes")
