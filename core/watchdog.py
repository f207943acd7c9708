"""Detection of a device that hangs or fails, and test generations that detect the recovery of the device."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from core.engine_failures import MAX_CONSECUTIVE_FAILURES, EngineFailures
from core.lifecycle import Lifecycle, State

log = logging.getLogger(__name__)

CHECK_INTERVAL_S = 1.0
FIRST_DELAY_S = 1.0
MAX_DELAY_S = 60.0
"""Maximum delay in seconds between two test generations.

The first delay is FIRST_DELAY_S. Each further delay is twice as long as the previous delay.
"""


class Watchdog:
    """Watchdog that makes the server refuse requests when the device hangs or fails, until a test generation succeeds.

    The watchdog assumes that the device hangs after more than `step_timeout_s` seconds without progress. It assumes
    that the device fails if MAX_CONSECUTIVE_FAILURES jobs in a row fail. `probe` runs a test generation and raises an
    exception if the generation fails. The lifecycle reports in two cases that the process is not alive: the device
    hangs, or a recovery takes more than `step_timeout_s` seconds.
    """

    def __init__(
        self,
        lifecycle: Lifecycle,
        failures: EngineFailures,
        step_timeout_s: float,
        seconds_without_progress: Callable[[], float],
        probe: Callable[[], Awaitable[None]],
    ) -> None:
        self._lifecycle = lifecycle
        self._failures = failures
        self._step_timeout_s = step_timeout_s
        self._seconds_without_progress = seconds_without_progress
        self._probe = probe
        self._recovering_since: float | None = None
        lifecycle.watch_with(self._is_alive)

    async def run(self) -> None:
        """Watch the device while the server is serving, until this method is cancelled."""
        interval = min(CHECK_INTERVAL_S, self._step_timeout_s / 2)
        while True:
            if await self._failures.wait_for_limit(interval):
                await self._recover(f"{MAX_CONSECUTIVE_FAILURES} generations in a row failed")
            elif self._hangs():
                await self._recover(f"the device has made no progress for {self._seconds_without_progress():.1f} s")

    def _hangs(self) -> bool:
        return self._seconds_without_progress() > self._step_timeout_s

    def _is_alive(self) -> bool:
        since = self._recovering_since
        return not self._hangs() and (since is None or time.monotonic() - since <= self._step_timeout_s)

    async def _recover(self, reason: str) -> None:
        """Refuse requests until a test generation succeeds.

        If the device hangs, the test generation waits until the device works again.
        """
        log.error("%s: requests are refused until a test generation succeeds", reason)
        self._recovering_since = time.monotonic()
        self._lifecycle.transition_to(State.RECOVERING)
        delay_s = FIRST_DELAY_S
        while not await self._succeeds(delay_s):
            await asyncio.sleep(delay_s)
            delay_s = min(MAX_DELAY_S, 2 * delay_s)
        self._failures.reset()
        self._recovering_since = None
        self._lifecycle.transition_to(State.SERVING)
        log.info("a test generation succeeded: the server accepts requests again")

    async def _succeeds(self, delay_s: float) -> bool:
        try:
            await self._probe()
        except Exception as error:
            log.warning("a test generation failed, the next one starts in %g s: %s", delay_s, error)
            return False
        return True
