"""Authentication of HTTP requests by an API key."""

from aiohttp import hdrs, web

from codec_http.route import Handler
from codec_http.state import API_KEYS
from core.request_record import current_record


def require_key(handler: Handler) -> Handler:
    """Return `handler`, preceded by the check of the API key if the server requires one.

    Raises Unauthenticated before the request's body is read.
    """

    async def checked(request: web.Request) -> web.StreamResponse:
        keys = request.app[API_KEYS]
        if keys is not None:
            current_record().key_name = keys.authenticate(request.headers.get(hdrs.AUTHORIZATION))
        return await handler(request)

    return checked
