"""A server refuses a request that needs more memory than its device has, before it generates anything."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from codec_server.local_model import LocalModel
from core.admission import Admission
from core.lifecycle import Lifecycle
from core.service import LatentService
from core.settings import Settings
from tests.support.http_requests import VIDEOS, read_error
from tests.support.serving import Servers, run_servers_for

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

BODY = {"prompt": "a sea", "stream_format": "msgpack", "size": "64x64", "steps": 2, "frames": 2}
LIMIT_MIB = 100


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    settings = Settings(
        pipeline="tests.support.families.videos:build_animatediff",
        models_dir=Path(tmp_path_factory.mktemp("models")),
        calibration_images=0,
        device="cpu",
        threads=1,
        max_memory_mib=LIMIT_MIB,
    )
    local, service = LocalModel(settings), LatentService(Lifecycle(), Admission(8, 10**12))
    try:
        await local.start_serving(service)
        async with run_servers_for(service) as servers:
            yield servers
    finally:
        await asyncio.to_thread(local.free)


async def test_video_of_240_frames_over_the_memory_limit_returns_413(servers: Servers) -> None:
    response = await servers.http.post(VIDEOS, json=BODY | {"size": "256x256", "frames": 240})
    error = await read_error(response)
    assert response.status == 413
    expected = f"MiB of memory, but the limit is {LIMIT_MIB} MiB; request a smaller size or fewer frames"
    assert expected in error["message"]
    assert servers.service.admission.jobs == 0


async def test_video_within_the_memory_limit_is_generated_and_its_memory_is_released(servers: Servers) -> None:
    response = await servers.http.post(VIDEOS, json=BODY)
    assert (response.status, bool(await response.read())) == (200, True)
    await asyncio.wait_for(servers.service.admission.wait_idle(), 10)
    metrics = await (await servers.http.get("/metrics")).text()
    assert "codec_max_working_memory_bytes 1.048576e+08" in metrics
    assert "\ncodec_working_memory_bytes 0.0\n" in metrics
