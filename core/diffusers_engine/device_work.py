"""Work of a job on the device thread that returns one result."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from core.engine import Job

ResultT = TypeVar("ResultT")


async def run_on_device(thread: ThreadPoolExecutor, job: Job, work: Callable[[], ResultT]) -> ResultT:
    """Return the result of `work`, which runs on the device thread. The job stays active until it ends."""
    submitted = thread.submit(work)
    job.occupy(submitted)
    return await asyncio.wrap_future(submitted)
