"""Fixtures for all tests: the small pipeline with its engine, and a server process with the embedded model."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# One OpenMP thread in this process and its subprocesses; torch reads this when it is imported. With more threads than
# free cores, threads wait in busy loops for threads that are not running: tiny models become 20 times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from codec_pixels.device import Device
from codec_pixels.device_thread import DeviceThread
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from tests.support.factories import load_from_factory
from tests.support.parallel import new_scheduler, sort_tests
from tests.support.pipeline_pixels import bundle_with_dtype
from tests.support.processes import Addresses, start_server
from tests.support.serving import Servers, run_servers
from tests.support.tiny_sd import save_model_and_map

# Shells start background processes with SIGINT ignored, and the subprocesses of the tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The tests check results, not durations: no time limit for a single Hypothesis example.
settings.register_profile("no-deadline", deadline=None, derandomize=False)
settings.load_profile("no-deadline")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Run the tests of a module in the same process, so that the fixtures of the module are set up only once."""
    return new_scheduler(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start long groups of tests first if the tests run in several processes."""
    if hasattr(config, "workerinput"):
        sort_tests(items)


@pytest.fixture(scope="session")
def device() -> Device:
    return Device.from_settings("cpu", "auto", 1)


@pytest.fixture(scope="session")
def tiny_model(device: Device) -> LoadedModel:
    """The small Stable Diffusion pipeline with random weights, loaded through the factory setting."""
    return load_from_factory("tests.support.tiny_sd:build_pipeline", device)


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models directory with the small Stable Diffusion pipeline, tiny-sd, and its latent-space map."""
    folder = tmp_path_factory.mktemp("models")
    save_model_and_map(folder, "tiny-sd-vae")
    return folder


@pytest.fixture(scope="session")
def device_thread(device: Device) -> Iterator[DeviceThread]:
    """The thread that runs pipelines; it has the number of CPU threads on which results depend."""
    thread = device.new_executor()
    yield thread
    thread.shutdown()


@pytest.fixture
def engine(tiny_model: LoadedModel, device_thread: DeviceThread) -> DiffusersEngine:
    return DiffusersEngine(tiny_model, device_thread)


@pytest.fixture
async def fp32_servers(engine: DiffusersEngine, tiny_model: LoadedModel) -> AsyncIterator[Servers]:
    """An HTTP and a gRPC server of the small pipeline, which send latents in fp32, so that they can be compared."""
    async with run_servers(engine, tiny_model.info, bundle=bundle_with_dtype(tiny_model, "fp32")) as servers:
        yield servers


@pytest.fixture(scope="session")
def embedded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    """A server process with the embedded model, the default of `serve`."""
    # The process is killed at the end, so its default temporary directory would remain.
    with start_server(CODEC_DATA_DIR=str(tmp_path_factory.mktemp("data"))) as addresses:
        yield addresses


@pytest.fixture(scope="session")
def one_job_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    """A server process with the embedded model that accepts one generation at a time."""
    with start_server("--models-dir", str(tmp_path_factory.mktemp("models")), "--max-jobs", "1") as addresses:
        yield addresses
