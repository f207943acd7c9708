"""Cross-origin resource sharing (CORS): pages of every origin may send requests and read responses.

This is safe because the server does not use cookies: a page can do nothing that another client cannot do.
"""

from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from codec_wire.http import RESPONSE_HEADERS

EXPOSED_HEADERS = ", ".join([*RESPONSE_HEADERS, "ETag", "Retry-After"])
"""Response headers that scripts may read in addition to the CORS-safelisted ones; a comma-separated list."""
PREFLIGHT_HEADERS = {
    hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, POST",
    hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "*, Authorization",  # the wildcard does not include Authorization
    hdrs.ACCESS_CONTROL_MAX_AGE: "7200",
}


@web.middleware
async def answer_preflight(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer CORS preflight requests, which browsers send before a cross-origin request with a JSON body."""
    if request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
        return web.Response(status=204, headers=PREFLIGHT_HEADERS)
    return await handler(request)


async def allow_any_origin(_request: web.Request, response: web.StreamResponse) -> None:
    """Add the CORS headers to every response of the application."""
    add_cors_headers(response)


def add_cors_headers(response: web.StreamResponse) -> None:
    """Add the CORS headers to `response`. Errors have them too; otherwise scripts could not read error messages."""
    response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*"
    response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED_HEADERS
