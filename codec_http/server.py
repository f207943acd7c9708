"""Builds the application and serves it."""

from dataclasses import dataclass

from aiohttp import web

from codec_http import discovery, generations, health, info
from codec_http.errors import error_boundary
from codec_http.picture_field import MAX_TEXT, PICTURE_FIELDS
from codec_http.state import REQUEST_TIMEOUT_S, SERVICE
from core.errors import InvalidSettings
from core.service import LatentService

MAX_BODY_BYTES = 1024 * 1024 + len(PICTURE_FIELDS) * MAX_TEXT
"""What the fields of a request take at the most, its pictures included."""


def build_app(service: LatentService, request_timeout_s: float) -> web.Application:
    """Return the facade over `service`."""
    app = web.Application(middlewares=[error_boundary], client_max_size=MAX_BODY_BYTES)
    app[SERVICE] = service
    app[REQUEST_TIMEOUT_S] = request_timeout_s
    app.add_routes(
        [
            web.post("/v1/images/generations", generations.images),
            web.post("/v1/videos/generations", generations.videos),
            web.get("/v1/models", info.models),
            web.get("/v1/models/{name:.+}", info.one_model),
            web.get("/codec/info", info.info),
            web.get("/codec/schema", info.schema),
            web.get("/codec/health", health.health),
            web.get("/health", health.health),
            web.get(f"{discovery.ROOT}/index.json", discovery.index),
            web.get(f"{discovery.ROOT}/latents/{{id:.+}}.json", discovery.latent_map),
            web.get(f"{discovery.ROOT}/dicts/{{hex}}.zstd", discovery.dictionary),
            web.get(f"{discovery.ROOT}/scales/{{hex}}.bin", discovery.scales),
            web.get("/livez", health.livez),
            web.get("/readyz", health.readyz),
        ]
    )
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
