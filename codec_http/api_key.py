"""Checks of the API key and of the client's number of active jobs before the body of a request is read."""

from aiohttp import hdrs, web

from codec_http.route import Handler
from core.api_keys import ApiKeys
from core.request_record import current_record
from core.service import LatentService


def require_key(handler: Handler, service: LatentService, keys: ApiKeys | None) -> Handler:
    """Return a handler that checks the API key and the number of active jobs, and then calls `handler`.

    `keys` are the accepted keys, or None if no key is required. `service` limits the number of jobs. The API key and
    the number of active jobs are checked before the body of the request is read. The returned handler raises
    Unauthenticated if the key is missing or unknown, and Overloaded if too many jobs are active.
    """

    async def checked(request: web.Request) -> web.StreamResponse:
        record = current_record()
        if keys is not None:
            record.key_name = keys.authenticate(request.headers.get(hdrs.AUTHORIZATION))
        if record.operation is not None:
            await service.require_place(record.client)
        return await handler(request)

    return checked
