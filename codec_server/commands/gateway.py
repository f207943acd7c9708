"""`codec-diffusers gateway`: the HTTP facade alone, over a gRPC server elsewhere. Imports no torch."""

from codec_grpc.upstream import Upstream, upstream_channel
from codec_http.server import start_http_server
from codec_server.runner import drain, run_until, stop_on_signals
from codec_server.terminal.startup import say, say_addresses
from codec_wire.errors import InvalidSettings
from core.admission import Admission
from core.lifecycle import Lifecycle
from core.service import LatentService
from core.settings import Settings

SETTINGS = ("upstream", "host", "port", "max_jobs", "max_cost", "request_timeout_s", "drain_timeout_s", "log_level")
"""The settings that mean something to a gateway."""


async def run_gateway(settings: Settings) -> None:
    """Serve HTTP over the gRPC server at the setting `upstream` until a signal.

    Raises InvalidSettings when none is named or the port cannot be had. An upstream that does not answer is no error:
    the gateway waits for it.
    """
    upstream = settings.upstream
    if upstream is None:
        raise InvalidSettings("no upstream is named: give --upstream (or CODEC_UPSTREAM) HOST:PORT of a gRPC server")
    stop = stop_on_signals()
    service = LatentService(Lifecycle(), Admission(settings.max_jobs, settings.max_cost))
    http = await start_http_server(service, settings.host, settings.port, settings.request_timeout_s)
    say_addresses(f"{settings.host}:{http.port}", None)
    say(f"  upstream {upstream}")
    # The channel outlives the drain: what still runs, runs over it.
    async with upstream_channel(upstream) as channel:
        try:
            await run_until(stop, Upstream(service, channel).follow())
        finally:
            await drain(service, settings.drain_timeout_s, [http])
    say("Stopped.")
