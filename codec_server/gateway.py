"""`codec-diffusers gateway`: the HTTP facade alone, over a gRPC server elsewhere. Imports no torch."""

from codec_grpc.upstream import Upstream
from codec_http.server import start_http_server
from codec_server.output import say, say_addresses
from codec_server.running import drain, run_until, stop_on_signals
from core.admission import Admission
from core.lifecycle import Lifecycle
from core.service import LatentService
from core.settings import Settings

SETTINGS = ("host", "port", "max_jobs", "max_cost", "request_timeout_s", "drain_timeout_s", "log_level")
"""The settings that mean something to a gateway."""


async def run_gateway(settings: Settings, upstream: str) -> None:
    """Serve HTTP over the gRPC server at `upstream` (HOST:PORT) until a signal.

    Raises InvalidSettings when the port cannot be had. A missing upstream is no error: the gateway waits for it.
    """
    stop = stop_on_signals()
    service = LatentService(Lifecycle(), Admission(settings.max_jobs, settings.max_cost))
    http = await start_http_server(service, settings.host, settings.port, settings.request_timeout_s)
    say_addresses(f"{settings.host}:{http.port}", None)
    say(f"  upstream {upstream}")
    try:
        await run_until(stop, Upstream(service, upstream).follow())
    finally:
        await drain(service, settings.drain_timeout_s, [http])
    say("Stopped.")
