"""Refusal of requests from web pages whose origin is not allowed, and CORS (cross-origin resource sharing) headers.

Pages of every origin may read the responses of the endpoints for discovery and probes, because these endpoints need no
API key. For all other endpoints, codec_http.origin_policy decides which origins are allowed.
"""

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from codec_http.origin_policy import OriginPolicy
from codec_http.route import Handler, is_public
from codec_wire.http import RESPONSE_HEADERS

EXPOSED_HEADERS = ", ".join([*RESPONSE_HEADERS, "ETag", "Retry-After"])
"""Comma-separated list of response headers that scripts may read in addition to the CORS-safelisted headers."""
PREFLIGHT_HEADERS = {
    hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, POST, DELETE",
    hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "*, Authorization",  # the wildcard does not include Authorization
    hdrs.ACCESS_CONTROL_MAX_AGE: "7200",
}
_READABLE_BY = web.RequestKey("readable_by", str)
"""Key under which a request object stores the origin whose web pages may read the response.

The value "*" stands for every origin.
"""


def check_origin(policy: OriginPolicy) -> Middleware:
    """Return a middleware that refuses requests whose Host or Origin header is not allowed by `policy`.

    The middleware also answers CORS preflight requests. A request is refused before it has any effect. Browsers send a
    preflight request before a cross-origin request with a JSON body.

    CORS headers alone do not protect the server. Browsers send some cross-origin requests without a preflight request,
    and only hide the response from the page. The middleware raises Forbidden if the Host or Origin header is not
    allowed.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        host, origin = request.headers.get(hdrs.HOST), request.headers.get(hdrs.ORIGIN)
        policy.require_host(host)
        if policy.allows_all or is_public(request.path):
            request[_READABLE_BY] = "*"
        elif origin is not None:
            policy.require_origin(origin, host)
            request[_READABLE_BY] = origin
        if request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
            return web.Response(status=204, headers=PREFLIGHT_HEADERS)
        return await handler(request)

    return check


async def add_cors_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add the CORS headers to every response of the application.

    Error responses also have CORS headers. Without CORS headers, scripts could not read the error messages.
    """
    readable_by = request.get(_READABLE_BY)
    if readable_by is not None:
        allow_origin(response, readable_by)
    if readable_by != "*":
        varies = response.headers.get(hdrs.VARY)
        response.headers[hdrs.VARY] = hdrs.ORIGIN if varies is None else f"{varies}, {hdrs.ORIGIN}"


def allow_origin(response: web.StreamResponse, origin: str) -> None:
    """Allow pages of `origin` to read `response`. If `origin` is "*", pages of every origin may read the response."""
    response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
    response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED_HEADERS
