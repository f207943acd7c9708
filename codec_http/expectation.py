"""Handling of the request header Expect."""

from aiohttp import HttpVersion11, hdrs, web


async def continue_request(request: web.Request) -> None:
    """Send the interim response 100 if the client waits for it before it sends the body.

    Other expectations are ignored, as RFC 9110, section 10.1.1, permits. aiohttp would answer them with 417 itself,
    before the middleware that logs requests and writes errors as JSON.
    """
    if request.version == HttpVersion11 and request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # aiohttp compares it with 0 to find out whether a response was begun
