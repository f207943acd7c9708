"""A timer that ends the waiting of a coroutine at the deadline of a job."""

import asyncio
from collections.abc import Awaitable
from contextlib import closing
from types import TracebackType
from typing import Self, TypeVar

from core.engine import Job, deadline_exceeded

ResultT = TypeVar("ResultT")


class Deadline:
    """Reusable context manager that cancels the awaits in its `with` blocks at the deadline of a job.

    The `with` blocks share one timer, in contrast to asyncio.timeout_at. Setting a separate timer for each `with` block
    would take more time than the code in most of the blocks. The asyncio task that creates this object must also run
    all `with` blocks. Call `close` after the last `with` block.
    """

    def __init__(self, job: Job, grace_s: float = 0.0) -> None:
        """Set the timer to the time `grace_s` seconds after the deadline of `job`."""
        self._task = asyncio.current_task()
        self._is_entered = False
        self._cancelling = 0
        self._expired = False
        self._cancelled = False
        self._timer: asyncio.TimerHandle | None = None
        if job.deadline is not None:
            self._timer = asyncio.get_running_loop().call_at(job.deadline + grace_s, self._expire)

    def error(self) -> Exception:
        """Return the error that a `with` block raises when the deadline passes."""
        return deadline_exceeded()

    def close(self) -> None:
        """Cancel the timer. After this call, the object does not refer to the task."""
        self._task = None
        if self._timer is not None:
            self._timer.cancel()

    def __enter__(self) -> Self:
        if self._expired:
            raise self.error()
        self._is_entered = True
        if self._task is not None:
            self._cancelling = self._task.cancelling()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_entered = False
        if self._cancelled and self._task is not None:
            self._cancelled = False
            # Another cancellation at the same time must not be lost; asyncio.timeout_at does the same.
            if self._task.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError):
                raise self.error() from None

    def _expire(self) -> None:
        self._expired = True
        if self._is_entered and self._task is not None:
            self._cancelled = True
            self._task.cancel()


async def before_deadline(step: Awaitable[ResultT], job: Job) -> ResultT:
    """Wait for `step` and return the result of `step`.

    Raises DeadlineExceeded if the deadline of `job` passes before `step` ends.
    """
    with closing(Deadline(job)) as deadline, deadline:
        return await step
