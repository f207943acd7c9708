"""`serve --engine ray --ray-address` as a process that connects to a cluster with deployed models."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
import ray

from codec_client import HttpClient
from codec_ray.cluster import applications, running_replicas
from core.service import LatentService
from tests.support.held_model import HeldFiles
from tests.support.processes import start_process
from tests.support.service_calls import generate

pytestmark = pytest.mark.slow


async def test_server_that_stops_leaves_the_applications_on_the_cluster(
    ray_service: LatentService, ray_files: HeldFiles, tmp_path: Path
) -> None:
    names = {served.model.name for served in ray_service.models}
    expected = [(await generate(ray_service, model=name))[1][0].data for name in sorted(names)]
    before = {name: running_replicas(status) for name, status in applications().items()}
    processes = set(ray_files.processes())
    address = ray.get_runtime_context().gcs_address
    arguments = ["serve", "--engine", "ray", "--ray-address", address, "--port", "0", "--grpc-port", "0"]
    with start_process(arguments) as server:
        url = (await asyncio.to_thread(server.wait_for, r"(http://127\.0\.0\.1:\d+)/v1/images")).group(1)
        await asyncio.to_thread(server.wait_for, "Ready after")
        async with HttpClient(url, cache_dir=tmp_path) as client:
            assert {model.name for model in await client.models()} == names
            for name in names:
                await client.generate("a sea", model=name, size=(64, 64), steps=2)
        server.popen.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(server.exit_status) == 0
        assert "Stopped." in server.output
    assert {name: running_replicas(status) for name, status in applications().items()} == before
    assert [(await generate(ray_service, model=name))[1][0].data for name in sorted(names)] == expected
    for process in processes:
        os.kill(process, 0)  # raises if the replica has ended
