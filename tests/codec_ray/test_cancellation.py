"""Cancellation and deadlines reach the sampler of a replica within one step."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import pytest

from codec_wire.errors import Cancelled, CodecError, DeadlineExceeded
from codec_wire.events import Started
from core.engine import Job, client_disconnected
from core.service import LatentService
from tests.support.held_model import HELD_STEP, WAIT_S, HeldFiles, wait_until
from tests.support.service_calls import generate, request_for

pytestmark = pytest.mark.slow


async def close_iterator(service: LatentService, files: HeldFiles) -> None:
    async with aclosing(service.generate(service.plan(request_for(steps=30)), Job())) as events:
        assert isinstance(await anext(events), Started)
        await files.wait_until_held()


async def cancel_job(service: LatentService, files: HeldFiles) -> None:
    job = Job()
    running = asyncio.create_task(generate(service, job, steps=30))
    await files.wait_until_held()
    job.cancel(client_disconnected())
    with pytest.raises(Cancelled):
        await running


async def cancel_task(service: LatentService, files: HeldFiles) -> None:
    running = asyncio.create_task(generate(service, steps=30))
    await files.wait_until_held()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def exceed_deadline(service: LatentService, files: HeldFiles) -> None:
    # Long enough for the job to reach the step that is held, also on a busy machine.
    deadline = asyncio.get_running_loop().time() + 5
    with pytest.raises(DeadlineExceeded):
        await generate(service, Job(deadline), steps=30)
    await files.wait_until_held()


@pytest.mark.parametrize("stop", [close_iterator, cancel_job, cancel_task, exceed_deadline])
async def test_cancelled_job_takes_no_further_step(
    stop: Callable[[LatentService, HeldFiles], asyncio.Future[None]], service: LatentService, files: HeldFiles
) -> None:
    files.hold.touch()
    await stop(service, files)
    await files.wait_until_idle()
    files.hold.unlink()
    assert service.admission.jobs == 0
    held = files.processes()
    assert len(held) == HELD_STEP
    # When the held replica runs another job, it has ended the step.
    taken: list[int] = []
    while held[0] not in taken:
        await generate(service, steps=2)
        count = len(taken) + 2
        taken = files.processes()[HELD_STEP:]
        assert len(taken) == count


async def test_waiting_job_is_cancelled_before_it_runs(service: LatentService, files: HeldFiles) -> None:
    files.hold.touch()
    running: list[asyncio.Task[object]] = []
    # Ray may send several jobs to one replica, and the waiting jobs must find none that is free.
    async with asyncio.timeout(WAIT_S):
        while files.count_held() < 2:
            running.append(asyncio.create_task(generate(service, steps=4)))
            await asyncio.sleep(0.5)
    waiting = [Job() for _ in range(12)]
    tasks = [asyncio.create_task(generate(service, job, steps=30)) for job in waiting]
    await wait_until(lambda: service.admission.jobs == len(running) + len(waiting))
    for job in waiting:
        job.cancel(client_disconnected())
    assert all(isinstance(error, CodecError) for error in await asyncio.gather(*tasks, return_exceptions=True))
    files.hold.unlink()
    await asyncio.gather(*running)
    assert len(files.processes()) == 4 * len(running)
