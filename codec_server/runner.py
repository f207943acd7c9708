"""Runs servers until a signal, then stops them in order: nothing that runs is lost, nothing hangs."""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable
from contextlib import suppress
from typing import Protocol

from codec_server.terminal.startup import say
from codec_wire.errors import NotReady
from core.lifecycle import RETRY_AFTER_S, State
from core.service import LatentService

log = logging.getLogger(__name__)

CANCELLED_JOBS_END_S = 10.0
"""How long cancelled jobs get to end: a step, and the client's reading of the last frame."""


class Stoppable(Protocol):
    """A started server."""

    async def stop(self) -> None:
        """Stop at once."""


def stop_on_signals() -> asyncio.Event:
    """Return the event that SIGTERM or SIGINT sets; a second signal ends the process at once."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def stop_or_end(number: signal.Signals) -> None:
        if stop.is_set():
            # Not by the default action: in a container the kernel keeps that from the first process.
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_or_end, number)
    return stop


async def run_until(stop: asyncio.Event, background: Awaitable[None]) -> None:
    """Run `background` until `stop` is set; it may end before. What it raises is raised here, at once."""
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
    """Stop in order: not ready and nothing new, running jobs end or are cancelled, the servers stop.

    `timeout_s` is what running jobs get, in seconds.
    """
    if service.lifecycle.state is State.SERVING:
        say("Stopping: running generations finish, new ones are refused.")
    service.lifecycle.transition_to(State.DRAINING)
    if service.admission.jobs:
        log.info("draining: %d generations are running, %g s left", service.admission.jobs, timeout_s)
    try:
        await asyncio.wait_for(service.admission.wait_idle(), timeout_s)
    except TimeoutError:
        log.warning("cancelling %d generations", service.admission.jobs)
        service.cancel_all(lambda: NotReady("the server is shutting down", RETRY_AFTER_S))
        with suppress(TimeoutError):
            await asyncio.wait_for(service.admission.wait_idle(), CANCELLED_JOBS_END_S)
    for server in servers:
        await server.stop()
    service.lifecycle.transition_to(State.STOPPED)
