"""Implementation of the `serve` command, which runs gRPC and HTTP servers for a local model or for replicas on Ray."""

import asyncio
import os
import time
from typing import Protocol

import typer

from codec_grpc.server import start_grpc_server
from codec_server.configured_http import start_configured_http, start_configured_metrics
from codec_server.local_model import LocalModel
from codec_server.runner import drain, ignore_loaded_objects, reload_on_hangup, run_until, stop_on_signals
from codec_server.terminal.startup import (
    print_addresses,
    print_models,
    server_url,
    warn_about_access,
    warn_about_versions,
)
from codec_wire.errors import InvalidSettings, StartupError
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


async def run_serve(settings: Settings) -> None:
    """Serve a model until SIGTERM or SIGINT.

    Raises StartupError if the model cannot be loaded or if a port is in use.
    """
    started = time.perf_counter()
    models = _models(settings)
    api_keys, tls = read_api_keys(settings), read_server_tls(settings)
    tracer = configured_tracer()
    tracers = [] if tracer is None else [tracer]
    stop = stop_on_signals()
    reload_on_hangup(api_keys, tls)
    admission = Admission(
        settings.max_jobs, settings.max_cost, settings.max_request_bytes, settings.max_jobs_per_client
    )
    service = LatentService(Lifecycle(ignore_loaded_objects), admission, Provenance.current(settings.image_digest))
    service.telemetry.tracer = tracer
    http = await start_configured_http(settings, service, api_keys, tls)
    grpc = await start_grpc_server(
        service, settings.host, settings.grpc_port, settings.request_timeout_s, api_keys=api_keys, tls=tls
    )
    url = server_url(settings, http.port)
    print_addresses(url, host_port(settings.host, grpc.port))
    metrics = await start_configured_metrics(settings, service)
    warn_about_access(settings)
    if settings.engine == "local":
        warn_about_versions()

    async def load_and_follow() -> None:
        await models.start_serving(service)
        print_models(
            service.models.require_all(),
            url,
            time.perf_counter() - started,
            needs_key=settings.api_key is not None or settings.api_keys_file is not None,
        )
        await models.follow(service)

    try:
        await run_until(stop, load_and_follow())
    except StartupError:
        service.lifecycle.transition_to(State.FAILED)
        raise
    finally:
        await drain(service, settings.drain_timeout_s, [http, grpc, *metrics, *tracers])
        freed = await asyncio.to_thread(models.free)
    typer.echo("Stopped.")
    if not freed:
        # Loading cannot be interrupted, and the interpreter would wait for its thread.
        os._exit(0)


class _Models(Protocol):
    """Interface to the models that a server serves, in this process or in other processes."""

    async def start_serving(self, service: LatentService) -> None:
        """Load the models, then let `service` serve them. Raises StartupError if a model cannot be loaded."""

    async def follow(self, service: LatentService) -> None:
        """Keep `service` up to date with the state of the models until this method is cancelled."""

    def free(self) -> bool:
        """Release the models. Return False if the models are still being loaded."""


def _models(settings: Settings) -> _Models:
    """Return the models that the configured engine runs.

    Raises InvalidSettings if the libraries of the engine are not installed.
    """
    if settings.engine == "local":
        if settings.require_pins:
            require_pins()
        return LocalModel(settings, Role(settings.role))
    try:
        from codec_ray.models import RayModels  # noqa: PLC0415 - ray is an extra
    except ModuleNotFoundError as error:
        raise InvalidSettings(
            f"the engine ray needs {error.name}, which is not installed: install the extra `ray` (pip install -c "
            "constraints.txt '.[ray]'); machines with replicas also need the extra `server`"
        ) from None
    return RayModels(settings)
