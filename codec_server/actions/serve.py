"""Runs a local model behind gRPC and HTTP, in one process. See codec_server.commands.serve."""

import asyncio
import os
import time

import typer

from codec_grpc.server import start_grpc_server
from codec_server.configured_http import start_configured_http, start_configured_metrics
from codec_server.local_model import LocalModel
from codec_server.runner import drain, reload_on_hangup, run_until, stop_on_signals
from codec_server.terminal.startup import (
    print_addresses,
    print_models,
    server_url,
    warn_about_access,
    warn_about_versions,
)
from codec_wire.errors import StartupError
from core.address import host_port
from core.admission import Admission
from core.api_keys import read_api_keys
from core.lifecycle import Lifecycle, State
from core.pins import Provenance, require_pins
from core.role import Role
from core.service import LatentService
from core.settings import Settings
from core.tls import read_server_tls
from core.tracing import configured_tracer
from core.watchdog import Watchdog


async def run_serve(settings: Settings) -> None:
    """Serve a local model until SIGTERM or SIGINT.

    Raises StartupError if the model cannot be loaded or if a port is in use.
    """
    started = time.perf_counter()
    if settings.require_pins:
        require_pins()
    api_keys, tls = read_api_keys(settings), read_server_tls(settings)
    model = LocalModel(settings, Role(settings.role))
    tracer = configured_tracer()
    tracers = [] if tracer is None else [tracer]
    stop = stop_on_signals()
    reload_on_hangup(api_keys, tls)
    admission = Admission(
        settings.max_jobs, settings.max_cost, settings.max_request_bytes, settings.max_jobs_per_client
    )
    service = LatentService(Lifecycle(), admission, Provenance.current(settings.image_digest))
    service.telemetry.tracer = tracer
    http = await start_configured_http(settings, service, api_keys, tls)
    grpc = await start_grpc_server(
        service, settings.host, settings.grpc_port, settings.request_timeout_s, api_keys=api_keys, tls=tls
    )
    url = server_url(settings, http.port)
    print_addresses(url, host_port(settings.host, grpc.port))
    metrics = await start_configured_metrics(settings, service)
    warn_about_access(settings)
    warn_about_versions()

    async def load_and_watch() -> None:
        await model.start_serving(service)
        print_models(service.models.require_all(), url, time.perf_counter() - started)
        await Watchdog(
            service.lifecycle, service.failures, settings.step_timeout_s, model.seconds_without_progress, model.probe
        ).run()

    try:
        await run_until(stop, load_and_watch())
    except StartupError:
        service.lifecycle.transition_to(State.FAILED)
        raise
    finally:
        await drain(service, settings.drain_timeout_s, [http, grpc, *metrics, *tracers])
        freed = await asyncio.to_thread(model.free)
    typer.echo("Stopped.")
    if not freed:
        # Loading cannot be interrupted, and the interpreter would wait for its thread.
        os._exit(0)
