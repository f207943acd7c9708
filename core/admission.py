"""How much work may wait and run at once, by count and by cost. Both protocols go through it."""

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager

from codec_wire.errors import Overloaded, TooLarge

_FADING = 0.8
"""What an older job counts for at each newer one: a few jobs after a change, the measured speed has followed."""
MAX_RETRY_AFTER_S = 120


class Admission:
    """Counts the jobs in the house, waiting, running or being read, and refuses at once what does not fit.

    `max_jobs` bounds their number, `max_cost` the sum of their costs (pixels x frames x steps). The device thread
    works in the order of admission. Used from the event loop's thread alone.
    """

    def __init__(self, max_jobs: int, max_cost: int) -> None:
        self._max_jobs = max_jobs
        self._max_cost = max_cost
        self._jobs = 0
        self._cost = 0
        self._measured_cost = 0.0
        self._measured_s = 0.0
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
        self._jobs += 1
        self._cost += cost
        self._empty.clear()
        try:
            yield
        finally:
            self._jobs -= 1
            self._cost -= cost
            if not self._jobs:
                self._empty.set()

    async def idle(self) -> None:
        """Wait until no job is in the house."""
        await self._empty.wait()

    def learn(self, cost: int, seconds: float) -> None:
        """Take note that the device took `seconds` for a job of that cost."""
        self._measured_cost = self._measured_cost * _FADING + cost
        self._measured_s = self._measured_s * _FADING + seconds

    def retry_after_s(self) -> int:
        """Return in how many whole seconds half of the work in the house should be done: 1 to 120."""
        if not self._measured_cost:
            return 1
        seconds = self._cost * self._measured_s / self._measured_cost / 2
        return min(MAX_RETRY_AFTER_S, max(1, math.ceil(seconds)))
