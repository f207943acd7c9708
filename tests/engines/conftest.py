"""The engines with the embedded model: the local one, and the one on Ray Serve.

All tests share one Ray cluster with two applications: scenes and tiny.
"""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

# Read when ray.serve is imported: how often it counts the jobs that the autoscaler looks at.
for name in ("HANDLE", "REPLICA"):
    os.environ[f"RAY_SERVE_{name}_AUTOSCALING_METRIC_PUSH_INTERVAL_S"] = "0.2"

import ray
from ray import serve
from ray.serve import RunTarget
from ray.serve.config import AutoscalingConfig, HTTPOptions, gRPCOptions
from ray.serve.schema import LoggingConfig

from codec_ray.app import application
from codec_ray.cluster import connect
from codec_ray.models import RayModels
from codec_server.local_model import LocalModel
from core.admission import Admission
from core.lifecycle import Lifecycle
from core.service import LatentService
from core.settings import Settings
from tests.support.held_model import LOADER, VARIABLE, HeldFiles, HeldModel
from tests.support.loras import write_lora
from tests.support.process_tree import descendants, wait_until_ended
from tests.support.processes import COVERAGE

SCENES, TINY = "scenes", "tiny"
TINY_PIPELINE = "tests.support.tiny_sd:build_small_pipeline"
SERVICER_FUNCTION = "codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc.add_LatentServiceServicer_to_server"
REPLICAS = 2
"""Number of replicas of the application scenes."""


def free_port() -> int:
    """Return a TCP port at which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


PROXY_PORT = free_port()
"""Port of Ray Serve's gRPC proxy."""


def settings_for(models_dir: Path, **fields: object) -> Settings:
    values = {"device": "cpu", "threads": 1, "models_dir": models_dir, "calibration_images": 0} | fields
    return Settings(**values)  # type: ignore[arg-type]


@pytest.fixture(scope="package")
def empty_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="package")
def held_files(tmp_path_factory: pytest.TempPathFactory) -> HeldFiles:
    """The files that hold the models of `models`."""
    folder = tmp_path_factory.mktemp("held")
    os.environ[VARIABLE] = str(folder)
    return HeldFiles(folder)


@pytest.fixture(scope="package")
def lora_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of LoRA files of the application tiny."""
    return write_lora(tmp_path_factory.mktemp("loras"), "ink", seed=1).parent


@pytest.fixture(scope="package")
def cluster(held_files: HeldFiles, empty_dir: Path, lora_dir: Path) -> Iterator[None]:
    """The Ray cluster of all tests."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    others = descendants(os.getpid())
    with pytest.MonkeyPatch.context() as patch:
        for name in COVERAGE:  # Ray ends its processes before coverage.py can write what it has measured
            patch.delenv(name, raising=False)
        connect(settings_for(empty_dir, replicas=6))
    try:
        serve.start(
            proxy_location="HeadOnly",
            http_options=HTTPOptions(host="127.0.0.1", port=free_port()),
            grpc_options=gRPCOptions(port=PROXY_PORT, grpc_servicer_functions=[SERVICER_FUNCTION]),
            logging_config=LoggingConfig(log_level="WARNING"),
        )
        scenes = settings_for(empty_dir, replicas=REPLICAS)
        tiny = settings_for(empty_dir, pipeline=TINY_PIPELINE, lora_dir=lora_dir, log_level="warning")
        scaling = AutoscalingConfig(
            min_replicas=1,
            max_replicas=2,
            target_ongoing_requests=2,
            upscale_delay_s=0.4,
            downscale_delay_s=2,
            metrics_interval_s=0.2,
            look_back_period_s=1,
        )
        serve.run_many(
            [
                RunTarget(application(tiny, autoscaling_config=scaling), name=TINY, route_prefix=None),
                # Ray's proxy finds only applications with a prefix.
                RunTarget(application(scenes, LOADER), name=SCENES, route_prefix=f"/{SCENES}"),
            ]
        )
        # Other tests of the session start processes too, which may outlive the cluster.
        roots = descendants(os.getpid()) - others
        yield
        started = roots.union(*map(descendants, roots))
    finally:
        ray.shutdown()
    assert not wait_until_ended(started)


@pytest.fixture(scope="package")
def ray_models(cluster: None) -> Iterator[LatentService]:
    """A service for the models of the cluster, as that of `codec-diffusers serve --engine ray`."""
    latent_service, models = new_service(), RayModels(Settings())
    assert asyncio.run(models.update(latent_service))
    yield latent_service
    models.free()


@pytest.fixture(scope="package")
def held_model(held_files: HeldFiles, empty_dir: Path) -> Iterator[HeldModel]:
    """The embedded model in this process, with one thread."""
    latent_service, local = new_service(), HeldModel(settings_for(empty_dir))
    asyncio.run(local.start_serving(latent_service))
    yield local
    local.free()


@pytest.fixture(scope="package")
def local_models(empty_dir: Path) -> Iterator[LatentService]:
    """A service for the embedded model in this process, with one thread, which no test holds."""
    latent_service, local = new_service(), LocalModel(settings_for(empty_dir))
    asyncio.run(local.start_serving(latent_service))
    yield latent_service
    local.free()


@pytest.fixture
def proxy_address(cluster: None) -> str:
    """HOST:PORT of Ray Serve's gRPC proxy, which serves the application scenes without the server."""
    return f"127.0.0.1:{PROXY_PORT}"


@pytest.fixture(params=["local", "ray"])
def engine_kind(request: pytest.FixtureRequest) -> str:
    """The engine on which a test runs."""
    kind: str = request.param
    return kind


@pytest.fixture
def devices(engine_kind: str) -> int:
    """The number of devices on which the engine runs the embedded model."""
    return REPLICAS if engine_kind == "ray" else 1


@pytest.fixture
def models(engine_kind: str, request: pytest.FixtureRequest) -> LatentService | HeldModel:
    """The models of the engine. Session fixtures use event loops of their own, so this one is not asynchronous."""
    found: LatentService | HeldModel = request.getfixturevalue("ray_models" if engine_kind == "ray" else "held_model")
    return found


@pytest.fixture
def files(models: LatentService | HeldModel, held_files: HeldFiles) -> Iterator[HeldFiles]:
    """The files that hold the models of the engine, without those of other tests."""
    held_files.clear()
    yield held_files
    held_files.clear()


@pytest.fixture
def ray_files(cluster: None, held_files: HeldFiles) -> Iterator[HeldFiles]:
    """The files that hold the replicas of the application scenes, without those of other tests."""
    held_files.clear()
    yield held_files
    held_files.clear()


@pytest.fixture
async def service(models: LatentService | HeldModel) -> LatentService:
    """A service for the engine, on the event loop of the test. Its default model is the embedded model."""
    if isinstance(models, LatentService):
        return copy_of(models)
    models.served = copy_of(models.served)
    return models.served


@pytest.fixture
async def ray_service(ray_models: LatentService) -> LatentService:
    """A service for the engine on Ray Serve, on the event loop of the test."""
    return copy_of(ray_models)


@pytest.fixture
async def local(local_models: LatentService) -> LatentService:
    """The service for the embedded model in this process, on the event loop of the test."""
    return copy_of(local_models)


def new_service() -> LatentService:
    return LatentService(Lifecycle(), Admission(32, 10**12))


def copy_of(service: LatentService) -> LatentService:
    latent_service = new_service()
    latent_service.models.replace(service.models)
    latent_service.lifecycle.transition_to(service.lifecycle.state)
    return latent_service
