"""Execution of a function as part of a job on the device thread."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from codec_pixels.device_thread import DeviceThread
from core.engine import Job

ResultT = TypeVar("ResultT")


async def run_on_device(thread: DeviceThread, job: Job, work: Callable[[], ResultT]) -> ResultT:
    """Run `work` on the device thread and return the result of `work`. `job` stays active until `work` has ended."""
    submitted = thread.submit_for(job.record.client, work)
    job.occupy(submitted)
    return await asyncio.wrap_future(submitted)
