"""Admission control for HTTP and gRPC: limits on the number, the total cost and the memory of active jobs."""

import asyncio
import math
import random
from types import TracebackType

from codec_wire.errors import Overloaded, TooLarge
from core.refusals import Refusals
from core.request_memory import DEFAULT_LIMIT_BYTES, RequestMemory, Reservation
from core.working_memory import NO_MEMORY, JobMemory, WorkingMemory

_DECAY = 0.8
"""Factor by which each new measurement multiplies the weight of the earlier measurements.

With a factor of 0.8, the estimated speed of the device follows a change of the speed after a few jobs.
"""
MAX_RETRY_AFTER_S = 120
_JITTER = 0.5
"""Maximum random increase of a retry delay, as a fraction of the delay. Because of the random increase, rejected
clients do not all retry at once."""
_JOBS_PER_RESERVED_JOB = 8
_MIN_JOBS_TO_RESERVE = 4


def default_jobs_per_client(max_jobs: int) -> int:
    """Return the default limit on active jobs of one client, for a server with at most `max_jobs` active jobs.

    One eighth of `max_jobs`, rounded up, is reserved for other clients. If `max_jobs` is less than 4, no jobs are
    reserved for other clients.
    """
    return max_jobs if max_jobs < _MIN_JOBS_TO_RESERVE else max_jobs - math.ceil(max_jobs / _JOBS_PER_RESERVED_JOB)


class Admission:
    """Limits on the number, the total cost and the memory of active jobs.

    Requests over a limit are rejected immediately. A job is active while the job is queued or running, and while the
    client reads the result of the job. `max_jobs` limits the number of all active jobs, and `max_jobs_per_client`
    limits the number of active jobs of one client. `max_cost` limits the total cost of active jobs. The cost of a job
    is the product of the numbers of pixels, latent frames and steps. `max_request_bytes` limits the total size of the
    request bodies that are being received and the input images of active jobs. `working_memory` limits the memory that
    active jobs need on the device. `max_jobs` and `max_cost` are limits for one device. For more than one device,
    `set_devices` multiplies `max_jobs` and `max_cost` by the number of devices. This class is not thread-safe: use it
    only from the event loop's thread.
    """

    def __init__(
        self,
        max_jobs: int,
        max_cost: int,
        max_request_bytes: int = DEFAULT_LIMIT_BYTES,
        max_jobs_per_client: int | None = None,
    ) -> None:
        self.memory = RequestMemory(max_request_bytes, self.retry_after_s)
        self.working_memory = WorkingMemory(self.retry_after_s)
        self.refusals = Refusals()
        self._max_jobs = max_jobs
        self._max_jobs_per_client = max_jobs_per_client
        self._max_cost = max_cost
        self.set_devices(1)
        self._jobs = 0
        self._jobs_of: dict[str, int] = {}
        """Number of active jobs of each client, as a dictionary by client. Clients without active jobs are not in the
        dictionary."""
        self._cost = 0
        self._measured_cost = 0.0
        self._measured_s = 0.0
        self._idle = asyncio.Event()
        self._idle.set()

    def set_devices(self, devices: int) -> None:
        """Set the number of devices that run jobs at the same time, and the limits that depend on it."""
        self.devices = devices
        self.max_jobs = self._max_jobs * devices
        self.max_jobs_per_client = self._max_jobs_per_client or default_jobs_per_client(self.max_jobs)
        self.max_cost = self._max_cost * devices

    @property
    def jobs(self) -> int:
        """Number of active jobs."""
        return self._jobs

    @property
    def cost(self) -> int:
        """Total cost of the active jobs."""
        return self._cost

    @property
    def seconds_per_cost(self) -> float:
        """Measured time in seconds that the device takes for one unit of cost, or 0 before the first job has ended."""
        return self._measured_s / self._measured_cost if self._measured_cost else 0.0

    def admit(self, cost: int, request_bytes: int = 0, client: str = "", memory: JobMemory = NO_MEMORY) -> "Place":
        """Admit a job of `client`. The job is active until the returned Place is freed.

        `cost` is the product of the numbers of pixels, latent frames and steps. `request_bytes` is the total size of
        the input images in bytes. `memory` is the memory that the job needs on the device.

        Raises TooLarge if the job alone exceeds a limit. Raises Overloaded if the job and the active jobs together
        exceed a limit. The error Overloaded contains the time to wait.
        """
        self.require_possible(cost)
        self.require_place(client)
        if self._cost + cost > self.max_cost:
            raise self._queue_full()
        self.working_memory.require(memory)
        place = Place(self, cost, client, self.memory.reserve(request_bytes), memory)
        self.working_memory.add(memory)
        self._jobs += 1
        self._jobs_of[client] = self._jobs_of.get(client, 0) + 1
        self._cost += cost
        self._idle.clear()
        return place

    def _free(self, cost: int, client: str, memory: JobMemory) -> None:
        self.working_memory.remove(memory)
        self._jobs -= 1
        self._jobs_of[client] -= 1
        if not self._jobs_of[client]:
            del self._jobs_of[client]
        self._cost -= cost
        if not self._jobs:
            self._idle.set()

    def require_possible(self, cost: int) -> None:
        """Raise TooLarge if a job with the cost `cost` alone exceeds the limit on the total cost of active jobs."""
        if cost > self._max_cost:
            raise TooLarge(
                f"this request costs {cost} (pixels x latent frames x steps), but the limit is {self._max_cost}; "
                "request a smaller size, fewer frames or fewer steps"
            )

    def require_place(self, client: str) -> None:
        """Raise Overloaded if the queue is full or `client` has too many active jobs.

        The error Overloaded contains the time to wait.
        """
        if self._jobs >= self.max_jobs:
            raise self._queue_full()
        jobs = self._jobs_of.get(client, 0)
        if jobs >= self.max_jobs_per_client:
            raise Overloaded(
                f"this client has {jobs} active jobs, but the limit for one client is {self.max_jobs_per_client}",
                self.retry_after_s(),
            )

    async def wait_idle(self) -> None:
        """Wait until no job is active."""
        await self._idle.wait()

    def record_duration(self, cost: int, seconds: float) -> None:
        """Record that the device took `seconds` for a job with the cost `cost`."""
        self._measured_cost = self._measured_cost * _DECAY + cost
        self._measured_s = self._measured_s * _DECAY + seconds

    def retry_after_s(self) -> int:
        """Estimate the time until half of the active work is done, in whole seconds from 1 to MAX_RETRY_AFTER_S.

        A random delay is added to the estimate. The random delay is at most half of the estimate or one second,
        whichever is longer.
        """
        seconds = max(1, math.ceil(self._cost * self.seconds_per_cost / 2 / self.devices))
        delay = int(random.random() * (1 + max(1, _JITTER * seconds)))  # noqa: S311 - not a secret
        return min(MAX_RETRY_AFTER_S, seconds + delay)

    def _queue_full(self) -> Overloaded:
        return Overloaded(
            f"the queue is full: {self._jobs} of {self.max_jobs} jobs are active, "
            f"and their cost is {self._cost} of {self.max_cost}",
            self.retry_after_s(),
        )


class Place:
    """The place of one job among the active jobs. Admission limits the number of places.

    A Place is a context manager that frees the place at the end of its `with` block. Without a `with` block, the method
    `free` must be called once.
    """

    __slots__ = ("_admission", "_client", "_cost", "_memory", "_reservation")

    def __init__(
        self, admission: Admission, cost: int, client: str, reservation: Reservation, memory: JobMemory
    ) -> None:
        self._admission = admission
        self._cost = cost
        self._client = client
        self._reservation = reservation
        self._memory = memory

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.free()

    def free(self) -> None:
        """Stop counting the job of this place as active."""
        self._reservation.free()
        self._admission._free(self._cost, self._client, self._memory)
