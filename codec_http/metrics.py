"""Metrics for Prometheus, served by the main server or by a separate server on a private port."""

from aiohttp import hdrs, web

from codec_http.connection import ConnectionRunner
from codec_http.connection_limits import ConnectionLimits
from codec_http.listener import Listener
from codec_http.state import SERVICE
from codec_wire.errors import InvalidSettings
from codec_wire.http import METRICS_PATH
from core.address import host_port
from core.metrics_text import CONTENT_TYPE, metrics_text
from core.service import LatentService

_MAX_CONNECTIONS = 32


async def metrics(request: web.Request) -> web.Response:
    """Handle GET /metrics. The endpoint is also available while the server is loading models."""
    return web.Response(body=metrics_text(request.app[SERVICE]), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})


class MetricsServer:
    """A running HTTP server that answers GET /metrics without API keys or TLS."""

    def __init__(self, runner: ConnectionRunner, listener: Listener) -> None:
        self._runner = runner
        self._listener = listener

    @property
    def port(self) -> int:
        """The port on which the server listens."""
        return self._listener.port

    async def stop(self) -> None:
        """Stop listening, and close all connections."""
        await self._listener.close()
        await self._runner.cleanup()


async def start_metrics_server(service: LatentService, host: str, port: int) -> MetricsServer:
    """Start an HTTP server for the metrics of `service` on `host`:`port`. Port 0 selects a free port.

    Raises InvalidSettings if the address is not available.
    """
    app = web.Application()
    app[SERVICE] = service
    app.router.add_get(METRICS_PATH, metrics)
    runner = ConnectionRunner(app, ConnectionLimits(_MAX_CONNECTIONS, _MAX_CONNECTIONS), shutdown_timeout=1.0)
    await runner.setup()
    try:
        return MetricsServer(runner, await Listener.open(runner.connection_server, host, port))
    except OSError as error:
        await runner.cleanup()
        reason = error.strerror or error
        raise InvalidSettings(f"the metrics server cannot listen on {host_port(host, port)}: {reason}") from None
