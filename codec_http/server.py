"""The aiohttp application and its HTTP server."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

from aiohttp import hdrs, web

from codec_http.api_key import require_key
from codec_http.connection import ConnectionRunner
from codec_http.connection_limits import ConnectionLimits
from codec_http.cors import add_cors_headers, check_origin
from codec_http.errors import add_request_id, error_boundary
from codec_http.expectation import continue_request
from codec_http.listener import Listener
from codec_http.openapi import openapi_document
from codec_http.origin_policy import OriginPolicy
from codec_http.routes import ROUTES
from codec_http.state import (
    BODY_PARSER,
    DOCUMENT,
    PUBLIC_URL,
    REQUEST_TIMEOUT_S,
    SERVICE,
    VIDEO_JOBS,
)
from codec_wire.errors import InvalidSettings
from core.address import host_port
from core.api_keys import ApiKeys
from core.limit_settings import DEFAULT_MAX_CONNECTIONS, DEFAULT_MAX_CONNECTIONS_PER_IP
from core.service import LatentService
from core.tls import ServerTls
from core.video_jobs.video_jobs import VideoJobs


def build_app(
    service: LatentService,
    request_timeout_s: float,
    public_url: str | None = None,
    *,
    api_keys: ApiKeys | None = None,
    origin_policy: OriginPolicy | None = None,
    video_jobs: VideoJobs | None = None,
) -> web.Application:
    """Return the aiohttp application for `service`.

    A generation may take at most `request_timeout_s` seconds. `public_url` is the URL under which clients reach the
    server, or None if the URL is unknown. `api_keys` are the accepted keys, or None if no key is required.
    `origin_policy` restricts which web pages may use the server. By default, only pages of the host on which the server
    runs may use the server. `video_jobs` are the jobs of the videos API. By default, video jobs are stored in a
    temporary directory. Video jobs are stopped when the application is stopped.
    """
    app = web.Application(
        middlewares=[error_boundary(service.telemetry), check_origin(origin_policy or OriginPolicy())]
    )
    app.on_response_prepare.extend([add_cors_headers, add_request_id])
    app[SERVICE] = service
    app[REQUEST_TIMEOUT_S] = request_timeout_s
    app[PUBLIC_URL] = public_url or ""
    app[BODY_PARSER] = ThreadPoolExecutor(1, "request-body")
    app.on_cleanup.append(_stop_body_parser)
    app[VIDEO_JOBS] = video_jobs or VideoJobs(service, request_timeout_s)
    app.on_cleanup.append(_stop_video_jobs)
    app[DOCUMENT] = _document()
    for route in ROUTES:
        handler = route.handler if route.is_public else require_key(route.handler, service, api_keys)
        if route.method == hdrs.METH_GET:
            # This also handles HEAD, as RFC 9110 requires.
            app.router.add_get(route.path, handler, expect_handler=continue_request)
        else:
            app.router.add_route(route.method, route.path, handler, expect_handler=continue_request)
    return app


@cache
def _document() -> dict[str, Any]:
    """Return the OpenAPI document, which is the same for every application of this process."""
    return openapi_document(ROUTES)


async def _stop_body_parser(app: web.Application) -> None:
    app[BODY_PARSER].shutdown(wait=False, cancel_futures=True)


async def _stop_video_jobs(app: web.Application) -> None:
    await app[VIDEO_JOBS].stop()


@dataclass(frozen=True, slots=True)
class HttpServer:
    """A running HTTP server and the port on which the server listens."""

    runner: web.AppRunner
    listener: Listener

    @property
    def port(self) -> int:
        """The port on which the server listens."""
        return self.listener.port

    async def stop(self) -> None:
        """Stop the server without waiting for active requests. Drain the server before calling this method."""
        await self.listener.close()
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
    limits: ConnectionLimits | None = None,
    allowed_origins: Iterable[str] | None = None,
    video_jobs: VideoJobs | None = None,
) -> HttpServer:
    """Start the HTTP server on `host`:`port`.

    Port 0 selects a free port. The function build_app describes the parameters that are not described here. `tls` has
    the certificates of an https server. Without `tls`, the server uses http. `limits` restricts the number of
    connections. Without `limits`, the default limits of the settings apply. `allowed_origins` are the origins of the
    web pages that may use the server. By default, only pages of the host on which the server runs may use the server.
    Raises InvalidSettings if the address is not available.
    """
    policy = OriginPolicy(allowed_origins, public_url, host)
    app = build_app(
        service, request_timeout_s, public_url, api_keys=api_keys, origin_policy=policy, video_jobs=video_jobs
    )
    limits = limits or ConnectionLimits(DEFAULT_MAX_CONNECTIONS, DEFAULT_MAX_CONNECTIONS_PER_IP)
    runner = ConnectionRunner(app, limits, shutdown_timeout=1.0)
    await runner.setup()
    try:
        context = None if tls is None else tls.context
        listener = await Listener.open(runner.connection_server, host, port, context)
    except OSError as error:
        await runner.cleanup()
        raise InvalidSettings(f"HTTP cannot listen on {host_port(host, port)}: {error.strerror or error}") from None
    return HttpServer(runner, listener)
