"""Checks of the API key and of the client's number of active jobs before the body of a request is read."""

from aiohttp import hdrs, web

from codec_http.route import Handler
from codec_http.state import API_KEYS, SERVICE
from core.request_record import current_record


def require_key(handler: Handler) -> Handler:
    """Return a handler that checks the API key and the number of active jobs, and then calls `handler`.

    The API key is only checked if the server requires an API key. The API key and the number of jobs are checked before
    the body of the request is read. The returned handler raises Unauthenticated if the key is missing or unknown, and
    Overloaded if too many jobs are active.
    """

    async def checked(request: web.Request) -> web.StreamResponse:
        keys, record = request.app[API_KEYS], current_record()
        if keys is not None:
            record.key_name = keys.authenticate(request.headers.get(hdrs.AUTHORIZATION))
        if record.operation is not None:
            await request.app[SERVICE].require_place(record.client)
        return await handler(request)

    return checked
