"""The trailer with the reason why a stream failed after its header was sent.

aiohttp does not send trailers (RFC 9112, 7.1.2), but a chunked body ends with them, so they are written as its end.
"""

from aiohttp import HttpVersion11, hdrs, web

from codec_http.errors import public_code_and_message
from codec_wire.http import ERROR_TRAILER, header_value

MAX_VALUE_CHARACTERS = 1024


def accepts_trailers(request: web.Request) -> bool:
    """Return whether the client wants to receive trailers."""
    accepted = request.headers.get(hdrs.TE, "")
    return request.version >= HttpVersion11 and any(
        item.partition(";")[0].strip().lower() == "trailers" for item in accepted.split(",")
    )


async def write_eof_with_error(request: web.Request, response: web.StreamResponse, error: BaseException) -> None:
    """End `response`, which has been started and is chunked, with the trailer that describes `error`."""
    value = header_value(": ".join(public_code_and_message(error)))[:MAX_VALUE_CHARACTERS]
    request.writer.chunked = False  # type: ignore[attr-defined]  # what follows is not a chunk
    await response.write(f"0\r\n{ERROR_TRAILER}: {value}\r\n\r\n".encode())
    await response.write_eof()
