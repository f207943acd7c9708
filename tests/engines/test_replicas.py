"""The replicas of the engine on Ray Serve: which one runs a job does not matter, which model does."""

import asyncio
from typing import Any

import pytest

from core.service import LatentService
from tests.support.held_model import HeldFiles
from tests.support.service_calls import generate, request_for

pytestmark = pytest.mark.slow


async def test_all_replicas_return_the_same_bytes(ray_service: LatentService, ray_files: HeldFiles) -> None:
    streams: list[Any] = []
    while len(set(ray_files.processes())) < 2:
        streams += await asyncio.gather(*(generate(ray_service, pipeline="int8") for _ in range(6)))
    assert all(stream == streams[0] for stream in streams)


async def test_requests_are_routed_by_model(ray_service: LatentService) -> None:
    names = {served.model.name for served in ray_service.models}
    assert len(names) == 2
    for name in names:
        assert ray_service.plan(request_for(model=name)).model == name
        _, frames = await generate(ray_service, model=name)
        assert frames[-1].done
