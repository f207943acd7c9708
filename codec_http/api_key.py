"""Checks before the body of a request is read: the API key, and whether the client may have another active job."""

from aiohttp import hdrs, web

from codec_http.route import Handler
from codec_http.state import API_KEYS, SERVICE
from core.request_record import current_record


def require_key(handler: Handler) -> Handler:
    """Return a handler that checks the API key (if the server requires one) and admission before it calls `handler`.

    The returned handler raises Unauthenticated and Overloaded before the request's body is read.
    """

    async def checked(request: web.Request) -> web.StreamResponse:
        keys, record = request.app[API_KEYS], current_record()
        if keys is not None:
            record.key_name = keys.authenticate(request.headers.get(hdrs.AUTHORIZATION))
        if record.operation is not None:
            await request.app[SERVICE].require_place(record.client)
        return await handler(request)

    return checked
