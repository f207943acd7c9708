"""Implementation of the `gateway` command, which serves HTTP in front of remote gRPC servers.

This module does not import torch.
"""

import typer

from codec_grpc.tls import upstream_credentials
from codec_grpc.upstream import Upstream
from codec_server.configured_http import start_configured_http, start_configured_metrics
from codec_server.runner import drain, ignore_loaded_objects, reload_on_hangup, run_until, stop_on_signals
from codec_server.terminal.startup import print_addresses, server_url, warn_about_access
from codec_wire.errors import InvalidSettings
from core.admission import Admission
from core.api_keys import read_api_keys, read_upstream_key
from core.lifecycle import Lifecycle
from core.service import LatentService
from core.settings import Settings
from core.tls import read_server_tls
from core.tracing import configured_tracer


async def run_gateway(settings: Settings) -> None:
    """Serve HTTP in front of the gRPC servers `settings.upstream` until SIGTERM or SIGINT.

    If no upstream server is serving, wait until an upstream server is serving. Raises InvalidSettings if
    `settings.upstream` is missing or the HTTP port is in use.
    """
    servers = settings.upstream_servers
    if not servers:
        raise InvalidSettings(
            "the gateway needs the address of a gRPC server: set --upstream HOST:PORT (CODEC_UPSTREAM)"
        )
    api_keys, tls, credentials = read_api_keys(settings), read_server_tls(settings), upstream_credentials(settings)
    upstream_key = read_upstream_key(settings)
    tracer = configured_tracer()
    tracers = [] if tracer is None else [tracer]
    stop = stop_on_signals()
    reload_on_hangup(api_keys, tls)
    admission = Admission(
        settings.max_jobs, settings.max_cost, settings.max_request_bytes, settings.max_jobs_per_client
    )
    service = LatentService(Lifecycle(), admission)
    service.telemetry.tracer = tracer
    http = await start_configured_http(settings, service, api_keys, tls)
    print_addresses(server_url(settings, http.port), None)
    metrics = await start_configured_metrics(settings, service)
    typer.echo(f"  upstream {', '.join(servers)}")
    warn_about_access(settings)
    ignore_loaded_objects()
    # Active generations use the connection until the drain has finished.
    async with Upstream(service, servers, credentials, upstream_key) as upstream:
        try:
            await run_until(stop, upstream.follow())
        finally:
            await drain(service, settings.drain_timeout_s, [http, *metrics, *tracers])
    typer.echo("Stopped.")
