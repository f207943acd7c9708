"""Admission control shared by both protocols: bounds on the number, the total cost and the memory of active jobs."""

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager

from codec_wire.errors import Overloaded, TooLarge
from core.request_memory import DEFAULT_LIMIT_BYTES, RequestMemory

_DECAY = 0.8
"""Weight of each measured duration relative to the next one, so that the estimate follows a change in a few jobs."""
MAX_RETRY_AFTER_S = 120


class Admission:
    """Bound the number, the total cost and the memory of active jobs, and reject requests over a limit immediately.

    A job is active while it is queued, running or being read by its client. `max_jobs` bounds their number, `max_cost`
    the sum of their costs in pixels x latent frames x steps, `max_request_bytes` the bytes of their input images,
    together with those of the request bodies that are being received. Not thread-safe: use it only from the event
    loop's thread.
    """

    def __init__(self, max_jobs: int, max_cost: int, max_request_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self.memory = RequestMemory(max_request_bytes, self.retry_after_s)
        self._max_jobs = max_jobs
        self._max_cost = max_cost
        self._jobs = 0
        self._cost = 0
        self._measured_cost = 0.0
        self._measured_s = 0.0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def jobs(self) -> int:
        """Number of active jobs."""
        return self._jobs

    @property
    def cost(self) -> int:
        """Total cost of the active jobs."""
        return self._cost

    @property
    def max_jobs(self) -> int:
        """Maximum number of active jobs."""
        return self._max_jobs

    @property
    def max_cost(self) -> int:
        """Maximum total cost of the active jobs."""
        return self._max_cost

    @property
    def seconds_per_cost(self) -> float:
        """Seconds that the device takes for a unit of cost, as measured; 0 before the first job has ended."""
        return self._measured_s / self._measured_cost if self._measured_cost else 0.0

    @contextmanager
    def admit(self, cost: int, request_bytes: int = 0) -> Iterator[None]:
        """Count a job of this cost, whose input images have `request_bytes`, as active inside the `with` block.

        Raises TooLarge if it exceeds a limit by itself; Overloaded, with the time to wait, if the job does not
        fit next to the active ones.
        """
        if cost > self._max_cost:
            raise TooLarge(
                f"this request costs {cost} (pixels x latent frames x steps), the limit is {self._max_cost}; "
                "request a smaller size, fewer frames or fewer steps"
            )
        if self._jobs >= self._max_jobs or self._cost + cost > self._max_cost:
            raise Overloaded(
                f"the queue is full: {self._jobs} of {self._max_jobs} jobs are active, "
                f"with a cost of {self._cost} of {self._max_cost}",
                self.retry_after_s(),
            )
        with self.memory.reserve(request_bytes):
            self._jobs += 1
            self._cost += cost
            self._idle.clear()
            try:
                yield
            finally:
                self._jobs -= 1
                self._cost -= cost
                if not self._jobs:
                    self._idle.set()

    async def wait_idle(self) -> None:
        """Wait until no job is active."""
        await self._idle.wait()

    def record_duration(self, cost: int, seconds: float) -> None:
        """Record that the device took `seconds` for a job of this cost."""
        self._measured_cost = self._measured_cost * _DECAY + cost
        self._measured_s = self._measured_s * _DECAY + seconds

    def retry_after_s(self) -> int:
        """Estimate when half of the active work will be done, in whole seconds from 1 to MAX_RETRY_AFTER_S."""
        seconds = self._cost * self.seconds_per_cost / 2
        return min(MAX_RETRY_AFTER_S, max(1, math.ceil(seconds)))
