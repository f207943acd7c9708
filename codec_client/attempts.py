"""Deadlines and retries of requests, shared by all clients and methods."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from codec_client.errors import ServerUnreachable
from codec_wire.errors import DeadlineExceeded, RetryableError

RECONNECT_DELAY_S = 1.0
"""Delay in seconds before a request is sent again to a server that did not respond."""

ResultT = TypeVar("ResultT")


class RequestOptions(Protocol):
    """The client settings that a request uses. See LatentClient."""

    timeout_s: float
    retries: int


async def run_before(deadline: float, options: RequestOptions, step: Awaitable[ResultT]) -> ResultT:
    """Return the result of `step`.

    `deadline` is a time on the clock of the event loop. Raises DeadlineExceeded if `step` is still running at the time
    `deadline`.
    """
    timeout = asyncio.timeout_at(deadline)
    try:
        async with timeout:
            return await step
    except TimeoutError:
        if timeout.expired():
            raise DeadlineExceeded(f"the request did not finish within {options.timeout_s:g} s") from None
        raise


async def run_with_retries(
    attempt: Callable[[], Awaitable[ResultT]],
    has_started: Callable[[], bool],
    options: RequestOptions,
    deadline: float,
) -> ResultT:
    """Return the result of `attempt`.

    `attempt` is called again if the server did not respond, is overloaded or is not ready.

    `has_started` returns whether a part of the result was received. `attempt` is not called again if `has_started`
    returns true, or if `attempt` was repeated `options.retries` times. `attempt` is also not called again if the delay
    before the next call would end after `deadline`. If `attempt` is not called again, the error of the last call of
    `attempt` is raised.
    """
    for number in range(options.retries + 1):
        try:
            return await attempt()
        except (RetryableError, ServerUnreachable) as error:
            delay = error.retry_after_s if isinstance(error, RetryableError) else RECONNECT_DELAY_S
            too_late = asyncio.get_running_loop().time() + delay > deadline
            if has_started() or number == options.retries or too_late:
                raise
            await asyncio.sleep(delay)
    raise AssertionError("the loop ended without a result or an error")
