"""`codec-diffusers serve`: a local model behind both protocols, in one process."""

import asyncio
import os
import time

from codec_grpc.server import start_grpc_server
from codec_http.server import start_http_server
from codec_server.local_model import LocalModel
from codec_server.runner import drain, run_until, stop_on_signals
from codec_server.terminal.startup import say, say_addresses, say_served, warn_of_pins
from codec_wire.errors import StartupError
from core.admission import Admission
from core.lifecycle import Lifecycle, State
from core.pins import Provenance, require_pins
from core.service import LatentService
from core.settings import Settings


async def serve(settings: Settings) -> None:
    """Serve until a signal. Raises StartupError when the model or a port cannot be had."""
    started = time.perf_counter()
    if settings.require_pins:
        require_pins()
    model = LocalModel(settings)
    stop = stop_on_signals()
    service = LatentService(
        Lifecycle(), Admission(settings.max_jobs, settings.max_cost), Provenance.current(settings.image_digest)
    )
    http = await start_http_server(service, settings.host, settings.port, settings.request_timeout_s)
    grpc = await start_grpc_server(service, settings.host, settings.grpc_port, settings.request_timeout_s)
    http_address = f"{settings.host}:{http.port}"
    say_addresses(http_address, f"{settings.host}:{grpc.port}")
    warn_of_pins()

    async def bring_up() -> None:
        await model.bring_up(service)
        say_served(service.models.require_all(), http_address, time.perf_counter() - started)

    try:
        await run_until(stop, bring_up())
    except StartupError:
        service.lifecycle.transition_to(State.FAILED)
        raise
    finally:
        await drain(service, settings.drain_timeout_s, [http, grpc])
        freed = await asyncio.to_thread(model.free)
    say("Stopped.")
    if not freed:
        # Loading cannot be interrupted, and the interpreter would wait for its thread.
        os._exit(0)
