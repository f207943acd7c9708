"""Builds the application and serves it."""

from dataclasses import dataclass

from aiohttp import web

from codec_http.cors import allow_any_origin, answer_preflight
from codec_http.errors import error_boundary
from codec_http.image_field import MAX_TEXT, PICTURE_FIELDS
from codec_http.openapi import openapi_document
from codec_http.routes import ROUTES
from codec_http.state import DOCUMENT, REQUEST_TIMEOUT_S, SERVICE
from codec_wire.errors import InvalidSettings
from core.service import LatentService

MAX_BODY_BYTES = 1024 * 1024 + len(PICTURE_FIELDS) * MAX_TEXT
"""What the fields of a request take at the most, its pictures included."""


def build_app(service: LatentService, request_timeout_s: float) -> web.Application:
    """Return the facade over `service`."""
    app = web.Application(middlewares=[error_boundary, answer_preflight], client_max_size=MAX_BODY_BYTES)
    app.on_response_prepare.append(allow_any_origin)
    app[SERVICE] = service
    app[REQUEST_TIMEOUT_S] = request_timeout_s
    app[DOCUMENT] = openapi_document(ROUTES)
    app.add_routes([web.route(route.method, route.path, route.handler) for route in ROUTES])
    return app


@dataclass(frozen=True, slots=True)
class HttpServer:
    """A started facade and the port it listens on."""

    runner: web.AppRunner
    port: int

    async def stop(self) -> None:
        """Stop at once; whoever calls this has drained."""
        await self.runner.cleanup()


async def start_http_server(service: LatentService, host: str, port: int, request_timeout_s: float) -> HttpServer:
    """Start the facade on `host`:`port` (0: a free one).

    Raises InvalidSettings when it cannot listen there.
    """
    # Without handler_cancellation a client that leaves would not stop its generation.
    runner = web.AppRunner(
        build_app(service, request_timeout_s), handler_cancellation=True, access_log=None, shutdown_timeout=1.0
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise InvalidSettings(f"HTTP cannot listen on {host}:{port}: {error.strerror or error}") from None
    return HttpServer(runner, runner.addresses[0][1])
