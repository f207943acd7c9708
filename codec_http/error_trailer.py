"""HTTP trailer that describes an error that occurred after the response header was sent.

The trailers of a response are the last bytes of the chunked body (RFC 9112, section 7.1.2). This module writes the
bytes of the trailer itself, because aiohttp has no function for trailers.
"""

from aiohttp import HttpVersion11, hdrs, web

from codec_http.errors import public_code_and_message
from codec_wire.http import ERROR_TRAILER, header_value

MAX_VALUE_CHARACTERS = 1024


def accepts_trailers(request: web.Request) -> bool:
    """Return whether the TE header of `request` accepts trailers."""
    accepted = request.headers.get(hdrs.TE)
    if accepted is None:
        return False
    return request.version >= HttpVersion11 and any(
        item.partition(";")[0].strip().lower() == "trailers" for item in accepted.split(",")
    )


async def write_eof_with_error(request: web.Request, response: web.StreamResponse, error: BaseException) -> None:
    """End the chunked response `response` with a trailer that describes `error`.

    The header of `response` must already have been sent.
    """
    value = header_value(": ".join(public_code_and_message(error)))[:MAX_VALUE_CHARACTERS]
    request.writer.chunked = False  # type: ignore[attr-defined]  # the following bytes are not a chunk
    await response.write(f"0\r\n{ERROR_TRAILER}: {value}\r\n\r\n".encode())
    await response.write_eof()
