"""The deadline of a job, applied to a step of its work."""

from collections.abc import Awaitable
from typing import TypeVar

from core.engine import Job, deadline_exceeded, job_timeout

ResultT = TypeVar("ResultT")


async def before_deadline(step: Awaitable[ResultT], job: Job) -> ResultT:
    """Return the result of `step`. Raises DeadlineExceeded if the deadline of `job` passes before."""
    timeout = job_timeout(job)
    try:
        async with timeout:
            return await step
    except TimeoutError:
        if timeout.expired():  # not a TimeoutError raised by the step
            raise deadline_exceeded() from None
        raise
