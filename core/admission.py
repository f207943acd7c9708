"""How much work may wait and run at once, by count and by cost. Both protocols go through it."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from core.errors import Overloaded, TooLarge

_SMOOTHING = 0.3
"""Weight of the newest job in the measured speed: a few jobs after a change, the estimate has followed."""


class Admission:
    """Counts the jobs in the house, waiting, running or being read, and refuses at once what does not fit.

    `max_jobs` bounds their number, `max_cost` the sum of their costs (pixels x frames x steps). The device thread
    works in the order of admission. Used from the event loop's thread alone.
    """

    def __init__(self, max_jobs: int, max_cost: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_jobs = max_jobs
        self._max_cost = max_cost
        self._clock = clock
        self._jobs = 0
        self._cost = 0
        self._seconds_per_cost: float | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def jobs(self) -> int:
        """Jobs in the house."""
        return self._jobs

    @contextmanager
    def admit(self, cost: int) -> Iterator[None]:
        """Hold a place for a job of that cost.

        Raises TooLarge where it can never fit, Overloaded (with the time after which it may) where it does not now.
        """
        if cost > self._max_cost:
            raise TooLarge(
                f"this request costs {cost} pixels x frames x steps, the server takes at most {self._max_cost}; "
                "ask for a smaller size, fewer frames or fewer steps"
            )
        if self._jobs >= self._max_jobs or self._cost + cost > self._max_cost:
            raise Overloaded(
                f"the queue is full: {self._jobs} of {self._max_jobs} jobs, {self._cost} of {self._max_cost} cost",
                self.retry_after_s(),
            )
        started, others = self._clock(), self._cost
        self._jobs += 1
        self._cost += cost
        self._empty.clear()
        try:
            yield
            if not others:  # alone from start to end of the line: its time is the device's
                self._learn((self._clock() - started) / cost)
        finally:
            self._jobs -= 1
            self._cost -= cost
            if not self._jobs:
                self._empty.set()

    async def idle(self) -> None:
        """Wait until no job is in the house."""
        await self._empty.wait()

    def retry_after_s(self) -> int:
        """Return in how many whole seconds half of the waiting work should be done, at least 1."""
        if self._seconds_per_cost is None:
            return 1
        return max(1, math.ceil(self._cost * self._seconds_per_cost / 2))

    def _learn(self, seconds_per_cost: float) -> None:
        known = self._seconds_per_cost
        self._seconds_per_cost = seconds_per_cost if known is None else known + _SMOOTHING * (seconds_per_cost - known)
