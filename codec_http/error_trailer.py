"""HTTP trailer that describes an error that occurred after the response header was sent.

aiohttp cannot send trailers (RFC 9112, section 7.1.2). A chunked body ends with its trailers. This module writes the
trailer as the last bytes of the body, because aiohttp has no function for trailers.
"""

from aiohttp import HttpVersion11, hdrs, web

from codec_http.errors import public_code_and_message
from codec_wire.http import ERROR_TRAILER, header_value

MAX_VALUE_CHARACTERS = 1024


def accepts_trailers(request: web.Request) -> bool:
    """Return whether the TE header of `request` accepts trailers."""
    accepted = request.headers.get(hdrs.TE, "")
    return request.version >= HttpVersion11 and any(
        item.partition(";")[0].strip().lower() == "trailers" for item in accepted.split(",")
    )


async def write_eof_with_error(request: web.Request, response: web.StreamResponse, error: BaseException) -> None:
    """End `response`, which has been started and is chunked, with the trailer that describes `error`."""
    value = header_value(": ".join(public_code_and_message(error)))[:MAX_VALUE_CHARACTERS]
    request.writer.chunked = False  # type: ignore[attr-defined]  # the following bytes are not a chunk
    await response.write(f"0\r\n{ERROR_TRAILER}: {value}\r\n\r\n".encode())
    await response.write_eof()
