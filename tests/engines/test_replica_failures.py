"""Replicas that die, and replicas that the autoscaler starts and stops: no request fails."""

import asyncio
import os
import signal
from contextlib import suppress

import pytest
from ray import serve

from codec_ray.app import APPLICATION
from codec_ray.cluster import applications, deploy, running_replicas
from codec_wire.errors import ModelLoadError
from core.service import LatentService
from core.settings import Settings
from tests.support.failing_model import LOADER
from tests.support.held_model import HeldFiles, wait_until
from tests.support.service_calls import Stream, generate

pytestmark = pytest.mark.slow

SCENES, TINY = "scenes", "tiny"
HANG_S = 240
"""Time after which a wait in this module fails the test. `python -m bench.ray_replacement` measures the time itself."""


def replicas_of(application: str) -> int:
    return running_replicas(applications()[application])


async def wait_for_replicas(application: str, number: int) -> None:
    async with asyncio.timeout(HANG_S):
        while await asyncio.to_thread(replicas_of, application) != number:
            await asyncio.sleep(0.5)


async def test_jobs_of_a_killed_replica_run_on_another_one(
    ray_service: LatentService, local: LatentService, ray_files: HeldFiles
) -> None:
    expected = await generate(local, steps=6, pipeline="int8")
    await wait_for_replicas(SCENES, 2)
    ray_files.hold.touch()
    running: list[asyncio.Task[Stream]] = []
    async with asyncio.timeout(HANG_S):
        # Ray sends all jobs to one replica as long as it does not know the other one, for example because that one
        # replaces a replica that an earlier test killed. Then only later jobs reach the other replica.
        while ray_files.count_held() < 2:
            running += [asyncio.create_task(generate(ray_service, steps=6, pipeline="int8")) for _ in range(6)]
            with suppress(TimeoutError):
                await ray_files.wait_until_held(processes=2)
    killed = ray_files.processes()[0]
    os.kill(killed, signal.SIGKILL)
    ray_files.hold.unlink()
    assert await asyncio.gather(*running) == [expected] * len(running)
    await wait_until(lambda: ray_service.admission.jobs == 0)
    # The next replica is a process that has not run before.
    before = set(ray_files.processes())
    await wait_for_replicas(SCENES, 2)
    async with asyncio.timeout(HANG_S):
        while not set(ray_files.processes()) - before:
            again = [generate(ray_service, steps=6, pipeline="int8") for _ in range(4)]
            assert await asyncio.gather(*again) == [expected] * 4


def test_error_of_a_model_that_cannot_be_loaded_is_that_of_the_replica(cluster: None) -> None:
    try:
        with pytest.raises(ModelLoadError, match=r"^there is no directory 'missing'$"):
            deploy(Settings(device="cpu"), LOADER)
    finally:
        serve.delete(APPLICATION)


async def test_number_of_replicas_follows_the_load_without_a_failed_request(
    ray_service: LatentService,
) -> None:
    name = next(one.model.name for one in ray_service.models if "tiny_sd" in one.model.name)
    expected = await generate(ray_service, model=name, steps=40)
    assert replicas_of(TINY) == 1
    done = 0

    async def send(until: asyncio.Task[None]) -> None:
        nonlocal done
        while not until.done():
            assert await generate(ray_service, model=name, steps=40) == expected
            done += 1

    for number, clients in ((2, 8), (1, 1)):
        scaled = asyncio.create_task(wait_for_replicas(TINY, number))
        await asyncio.gather(scaled, *(send(scaled) for _ in range(clients)))
    assert done >= 9
