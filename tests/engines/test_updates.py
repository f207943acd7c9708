"""An application that is deployed again with other settings."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray import serve

from codec_ray.app import application
from codec_ray.models import RayModels
from codec_wire.errors import NotReady
from codec_wire.latents import Modality
from core.admission import Admission
from core.engine import Job
from core.lifecycle import Lifecycle
from core.served import ModelInstance
from core.service import LatentService
from core.settings import Settings
from tests.support.noise_model import LOADER, MODEL
from tests.support.service_calls import generate, request_for

pytestmark = pytest.mark.slow

UPDATED = "updated"
FIELDS: dict[str, Any] = {"model": MODEL.name, "modality": Modality.VIDEO, "frames": 2, "fps": 8}


async def deploy(models_dir: Path, threads: int) -> None:
    settings = Settings(device="cpu", threads=threads, models_dir=models_dir)
    await asyncio.to_thread(serve.run, application(settings, LOADER), name=UPDATED, route_prefix=None)


@pytest.fixture
def application_is_deleted(cluster: None) -> Iterator[None]:
    yield
    serve.delete(UPDATED)


def served_by(service: LatentService) -> ModelInstance:
    return next(served for served in service.models if served.model.name == MODEL.name)


async def test_update_is_noticed_and_new_replicas_run_no_job_of_the_old_version(
    application_is_deleted: None, empty_dir: Path
) -> None:
    latent_service, models = LatentService(Lifecycle(), Admission(32, 10**12)), RayModels(Settings())
    await deploy(empty_dir, threads=1)
    assert await models.update(latent_service)
    old = served_by(latent_service)
    plan = latent_service.plan(request_for(**FIELDS))
    assert "1 threads" in old.device
    before = await generate(latent_service, **FIELDS)

    await deploy(empty_dir, threads=2)
    assert old.engine is not None
    with pytest.raises(NotReady, match="replaced by another version"):
        await anext(old.engine.generate(plan, Job()))
    while served_by(latent_service) is old:
        await asyncio.sleep(0.2)
        assert await models.update(latent_service)
    assert "2 threads" in served_by(latent_service).device
    assert await generate(latent_service, **FIELDS) == before
