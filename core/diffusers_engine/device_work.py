"""Work of a job on the device thread that returns one result."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from codec_pixels.device_thread import DeviceThread
from core.engine import Job

ResultT = TypeVar("ResultT")


async def run_on_device(thread: DeviceThread, job: Job, work: Callable[[], ResultT]) -> ResultT:
    """Return the result of `work`, which runs on the device thread. The job stays active until it ends."""
    submitted = thread.submit_for(job.record.client, work)
    job.occupy(submitted)
    return await asyncio.wrap_future(submitted)
