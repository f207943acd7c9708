"""The deadline of a job ends what is awaited in its blocks, once, and only that."""

import asyncio

import pytest

from codec_wire.errors import DeadlineExceeded
from core.deadline import Deadline
from core.engine import Job


def job_ending_in(seconds: float) -> Job:
    return Job(deadline=asyncio.get_running_loop().time() + seconds)


async def test_await_in_a_block_ends_at_the_deadline() -> None:
    deadline = Deadline(job_ending_in(0.01))
    with pytest.raises(DeadlineExceeded), deadline:
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)  # the task was not left cancelled


async def test_blocks_before_the_deadline_are_not_affected() -> None:
    deadline = Deadline(job_ending_in(10))
    for _ in range(3):
        with deadline:
            await asyncio.sleep(0)
    deadline.close()


async def test_deadline_that_passes_between_two_blocks_ends_the_second() -> None:
    deadline = Deadline(job_ending_in(0.01))
    with deadline:
        pass
    await asyncio.sleep(0.03)  # is not cancelled
    with pytest.raises(DeadlineExceeded), deadline:
        pytest.fail("the block was entered after the deadline")


async def test_job_without_a_deadline_has_no_timer() -> None:
    with Deadline(Job()) as deadline:
        await asyncio.sleep(0)
    deadline.close()


async def test_cancellation_of_the_task_is_not_converted() -> None:
    async def wait() -> None:
        with Deadline(job_ending_in(10)):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancellation_at_the_moment_of_the_deadline_is_not_lost() -> None:
    async def wait() -> None:
        with Deadline(job_ending_in(0.01)):
            try:
                await asyncio.Event().wait()
            finally:
                task.cancel()  # from outside, after the deadline has cancelled the task

    task = asyncio.create_task(wait())
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_error_of_a_block_is_raised_unchanged() -> None:
    with pytest.raises(TimeoutError, match="of the engine"), Deadline(job_ending_in(10)):
        raise TimeoutError("of the engine")
