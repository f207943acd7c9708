"""Fixtures that several packages' tests share: the stand-in, loaded once."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import settings

from codec_pixels.device import Device
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from tests.support.factories import built_by
from tests.support.processes import Addresses, served

# A shell has what it starts in the background ignore interrupts, and the processes that tests start would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Times differ between machines and between runs; what is tested here is what comes out.
settings.register_profile("steady", deadline=None, derandomize=False)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def device() -> Device:
    return Device.chosen("cpu", "auto", 1)


@pytest.fixture(scope="session")
def standin(device: Device) -> LoadedModel:
    """The stand-in pipeline, by way of the factory hook."""
    return built_by("tests.support.standin:build_pipeline", device)


@pytest.fixture(scope="session")
def device_thread(device: Device) -> Iterator[ThreadPoolExecutor]:
    thread = device.new_thread()
    yield thread
    thread.shutdown()


@pytest.fixture
def engine(standin: LoadedModel, device_thread: ThreadPoolExecutor) -> DiffusersEngine:
    return DiffusersEngine(standin, device_thread)


@pytest.fixture(scope="session")
def embedded_server() -> Iterator[Addresses]:
    """A process that serves the model that ships with the project, as `serve` does where none is named."""
    with served() as addresses:
        yield addresses
