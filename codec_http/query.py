"""Reading and checking of the query parameters of a request."""

from collections.abc import Iterable

from aiohttp import web

from codec_wire.request import unknown_field_error


def query_of(request: web.Request, known: Iterable[str]) -> dict[str, str]:
    """Return a dictionary of the query parameters by name, without empty parameters.

    Raises InvalidRequest if a parameter is not in `known`.
    """
    known = tuple(known)
    for name in request.query:
        if name not in known:
            raise unknown_field_error(name, known)
    return {name: value for name, value in request.query.items() if value}
