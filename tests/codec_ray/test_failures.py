"""Replicas that die, and replicas that the autoscaler starts and stops: no request fails."""

import asyncio
import os
import signal
import time

import pytest

from codec_ray.cluster import applications, running_replicas
from core.service import LatentService
from tests.support.held_model import HeldFiles, wait_until
from tests.support.service_calls import generate

pytestmark = pytest.mark.slow

SCENES, TINY = "scenes", "tiny"
NEW_REPLICA_S = 60
"""Time after which a killed replica must have been replaced: Serve notices it in 2 s, the rest is loading."""


def replicas_of(application: str) -> int:
    return running_replicas(applications()[application])


async def wait_for_replicas(application: str, number: int, seconds: float = NEW_REPLICA_S) -> None:
    async with asyncio.timeout(seconds):
        while await asyncio.to_thread(replicas_of, application) != number:
            await asyncio.sleep(0.2)


async def test_jobs_of_a_killed_replica_run_on_another_one(
    service: LatentService, local: LatentService, files: HeldFiles
) -> None:
    expected = await generate(local, steps=6, pipeline="int8")
    files.hold.touch()
    running = [asyncio.create_task(generate(service, steps=6, pipeline="int8")) for _ in range(6)]
    await files.wait_until_held(processes=2)
    killed = files.processes()[0]
    os.kill(killed, signal.SIGKILL)
    killed_at = time.monotonic()
    files.hold.unlink()
    assert await asyncio.gather(*running) == [expected] * 6
    await wait_until(lambda: service.admission.jobs == 0)
    # The next replica is a process that has not run before.
    before = set(files.processes())
    await wait_for_replicas(SCENES, 2)
    while not set(files.processes()) - before:
        assert await asyncio.gather(*(generate(service, steps=6, pipeline="int8") for _ in range(4))) == [expected] * 4
        assert time.monotonic() - killed_at < NEW_REPLICA_S


async def test_number_of_replicas_follows_the_load_without_a_failed_request(
    service: LatentService,
) -> None:
    name = next(one.model.name for one in service.models if "tiny_sd" in one.model.name)
    expected = await generate(service, model=name, steps=40)
    assert replicas_of(TINY) == 1
    done = 0

    async def send(until: int) -> None:
        nonlocal done
        while await asyncio.to_thread(replicas_of, TINY) != until:
            assert await generate(service, model=name, steps=40) == expected
            done += 1

    async with asyncio.timeout(2 * NEW_REPLICA_S):
        await asyncio.gather(*(send(until=2) for _ in range(4)))
        await send(until=1)
    assert done >= 4
