"""Functions that run servers until a signal is received, and then drain and stop the servers."""

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol

import typer

from codec_server.terminal.startup import configure_log
from codec_wire.errors import NotReady
from core.lifecycle import RETRY_AFTER_S, State
from core.service import LatentService
from core.settings import Settings, read_settings
from core.unknown_variables import unknown_variables

log = logging.getLogger(__name__)

CANCEL_TIMEOUT_S = 10.0
"""Maximum time in seconds to wait for cancelled generations. A cancelled generation finishes a sampling step and sends
the last frame."""


def run_server(flags: dict[str, Any], serve: Callable[[Settings], Coroutine[Any, Any, None]]) -> None:
    """Read the settings from `flags` and the environment, configure the log, and run `serve`.

    Raises InvalidSettings if a setting is invalid. Also raises the errors of `serve`.
    """
    settings = read_settings(flags)
    configure_log(settings.log_level, settings.log_format)
    for warning in unknown_variables():
        log.warning("%s", warning)
    asyncio.run(serve(settings))


def ignore_loaded_objects() -> None:
    """Exclude the objects that exist now from the search for reference cycles.

    Call this function when all libraries and models are loaded, but before the server accepts requests. torch and
    diffusers create about half a million objects. A search among these objects stops the process for more than 0.3 s.
    This function searches once, and finds the reference cycles that loading has left. Later searches would find nothing
    among these objects.
    """
    gc.collect()
    gc.freeze()


class Stoppable(Protocol):
    """A running server that can be stopped."""

    async def stop(self) -> None:
        """Stop the server without waiting for active requests."""


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM or SIGINT sets. A second signal ends the process immediately."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def handle_signal(number: signal.Signals) -> None:
        if stop.is_set():
            # The default action of a signal is not available: the kernel ignores it for process 1 of a container.
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, handle_signal, number)
    return stop


class Reloadable(Protocol):
    """An object whose contents are read from files and can be read again."""

    def reload(self) -> None:
        """Read the contents of this object from the files again."""


def reload_on_hangup(*sources: Reloadable | None) -> None:
    """Reload all `sources` on every SIGHUP. If there are no `sources`, SIGHUP ends the process."""
    present = [source for source in sources if source is not None]

    def reload() -> None:
        for source in present:
            source.reload()

    if present:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)


async def run_until(stop: asyncio.Event, background: Awaitable[None]) -> None:
    """Run `background` until the event `stop` is set.

    If `background` fails before `stop` is set, raise the error of `background` immediately.
    """
    task = asyncio.ensure_future(background)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
            await stopped
    finally:
        for waiting in (task, stopped):
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting


async def drain(service: LatentService, timeout_s: float, servers: list[Stoppable]) -> None:
    """Reject new requests, wait for active generations, and stop the servers.

    Generations that are still active after `timeout_s` seconds are cancelled.
    """
    if service.lifecycle.state is State.SERVING:
        typer.echo("Stopping: active generations finish, new requests are rejected.")
    service.lifecycle.transition_to(State.DRAINING)
    if service.admission.jobs:
        log.info("draining: %d active generations, timeout %g s", service.admission.jobs, timeout_s)
    try:
        await asyncio.wait_for(service.admission.wait_idle(), timeout_s)
    except TimeoutError:
        log.warning("drain timeout: cancelling %d active generations", service.admission.jobs)
        service.cancel_all(lambda: NotReady("the server is shutting down", RETRY_AFTER_S))
        with suppress(TimeoutError):
            await asyncio.wait_for(service.admission.wait_idle(), CANCEL_TIMEOUT_S)
    for server in servers:
        await server.stop()
    service.lifecycle.transition_to(State.STOPPED)
