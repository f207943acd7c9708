"""Runs an HTTP server in front of a remote gRPC server. Does not import torch. See codec_server.commands.gateway."""

import typer

from codec_grpc.upstream import Upstream, upstream_channel
from codec_http.server import start_http_server
from codec_server.runner import drain, reload_on_hangup, run_until, stop_on_signals
from codec_server.terminal.startup import print_addresses
from codec_wire.errors import InvalidSettings
from core.address import host_port
from core.admission import Admission
from core.api_keys import read_api_keys
from core.lifecycle import Lifecycle
from core.service import LatentService
from core.settings import Settings


async def run_gateway(settings: Settings) -> None:
    """Serve HTTP in front of the gRPC server `settings.upstream` until SIGTERM or SIGINT.

    Waits for an upstream that does not respond. Raises InvalidSettings if there is no upstream or the port is in use.
    """
    upstream = settings.upstream
    if upstream is None:
        raise InvalidSettings("gateway needs the address of a gRPC server: set --upstream (CODEC_UPSTREAM) HOST:PORT")
    api_keys = read_api_keys(settings)
    stop = stop_on_signals()
    if api_keys is not None:
        reload_on_hangup(api_keys.reload)
    service = LatentService(Lifecycle(), Admission(settings.max_jobs, settings.max_cost))
    http = await start_http_server(
        service, settings.host, settings.port, settings.request_timeout_s, settings.public_url, api_keys=api_keys
    )
    print_addresses(host_port(settings.host, http.port), None)
    typer.echo(f"  upstream {upstream}")
    # Active generations use the channel until the drain has finished.
    async with upstream_channel(upstream) as channel:
        try:
            await run_until(stop, Upstream(service, channel, settings.upstream_api_key).follow())
        finally:
            await drain(service, settings.drain_timeout_s, [http])
    typer.echo("Stopped.")
