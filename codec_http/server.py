"""The aiohttp application and its HTTP server."""

from dataclasses import dataclass

from aiohttp import web

from codec_http.api_key import require_key
from codec_http.connection import ConnectionRunner
from codec_http.cors import allow_any_origin, answer_preflight
from codec_http.errors import error_boundary
from codec_http.image_field import IMAGE_FIELDS, MAX_BASE64_CHARACTERS
from codec_http.openapi import openapi_document
from codec_http.routes import ROUTES
from codec_http.state import API_KEYS, DOCUMENT, PUBLIC_URL, REQUEST_TIMEOUT_S, SERVICE
from codec_wire.errors import InvalidSettings
from core.address import host_port
from core.api_keys import ApiKeys
from core.service import LatentService
from core.tls import ServerTls

MAX_BODY_BYTES = 1024 * 1024 + len(IMAGE_FIELDS) * MAX_BASE64_CHARACTERS
"""Maximum size of a request body: all image fields, and 1 MiB for the other fields."""

BACKLOG = 1024
"""Connections that the kernel completes before the server accepts them. It drops the packets of further clients, which
repeat them after 1, 3 and 7 seconds. The default of aiohttp is 128."""


def build_app(
    service: LatentService,
    request_timeout_s: float,
    public_url: str | None = None,
    *,
    api_keys: ApiKeys | None = None,
) -> web.Application:
    """Return the aiohttp application for `service`.

    A generation may take at most `request_timeout_s` seconds. `public_url` is the URL under which clients reach the
    server; None if it is unknown. `api_keys` are the accepted keys; None if no key is required.
    """
    app = web.Application(middlewares=[error_boundary, answer_preflight], client_max_size=MAX_BODY_BYTES)
    app.on_response_prepare.append(allow_any_origin)
    app[SERVICE] = service
    app[REQUEST_TIMEOUT_S] = request_timeout_s
    app[PUBLIC_URL] = public_url or ""
    app[API_KEYS] = api_keys
    app[DOCUMENT] = openapi_document(ROUTES)
    for route in ROUTES:
        app.router.add_route(route.method, route.path, route.handler if route.is_public else require_key(route.handler))
    return app


@dataclass(frozen=True, slots=True)
class HttpServer:
    """A running HTTP server and the port on which it listens."""

    runner: web.AppRunner
    port: int

    async def stop(self) -> None:
        """Stop without waiting for active requests. Drain the server first."""
        await self.runner.cleanup()


async def start_http_server(
    service: LatentService,
    host: str,
    port: int,
    request_timeout_s: float,
    public_url: str | None = None,
    *,
    api_keys: ApiKeys | None = None,
    tls: ServerTls | None = None,
) -> HttpServer:
    """Start the HTTP server on `host`:`port`; port 0 selects a free port. See build_app for the other parameters.

    `tls` are the certificates of an https server; None for http. Raises InvalidSettings if the address is not
    available.
    """
    runner = ConnectionRunner(
        build_app(service, request_timeout_s, public_url, api_keys=api_keys), shutdown_timeout=1.0
    )
    await runner.setup()
    try:
        context = None if tls is None else tls.context
        await web.TCPSite(runner, host, port, backlog=BACKLOG, ssl_context=context).start()
    except OSError as error:
        await runner.cleanup()
        raise InvalidSettings(f"HTTP cannot listen on {host_port(host, port)}: {error.strerror or error}") from None
    return HttpServer(runner, runner.addresses[0][1])
