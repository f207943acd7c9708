"""Lets pages of any origin read answers, as they may read the files that decode them (the Fetch standard, CORS).

No credentials go along, and nothing here depends on who asks by a cookie: a page learns no more than any client does.
"""

from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from codec_wire.http import RESPONSE_HEADERS

READABLE = ", ".join([*RESPONSE_HEADERS, hdrs.ETAG, hdrs.RETRY_AFTER])
"""Response headers that a page's script sees beside the few that it always does. A comma-separated list."""
PREFLIGHT_HEADERS = {
    hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, POST",
    hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "*, Authorization",  # which the star leaves out
    hdrs.ACCESS_CONTROL_MAX_AGE: "7200",
}


@web.middleware
async def answer_preflight(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer the question that a browser asks before it sends a page's JSON to another origin."""
    if request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
        return web.Response(status=204, headers=PREFLIGHT_HEADERS)
    return await handler(request)


async def allow_any_origin(_request: web.Request, response: web.StreamResponse) -> None:
    """Say so on every answer, errors among them: without it a page cannot even read what was wrong."""
    response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*"
    response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = READABLE
