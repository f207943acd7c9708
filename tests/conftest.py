"""Fixtures that several packages' tests share: the stand-in, loaded once."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import settings

from codec_pixels.device import Device
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from tests.support.factories import load_from_factory
from tests.support.processes import Addresses, start_server

# A shell has what it starts in the background ignore interrupts, and the processes that tests start would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Times differ between machines and between runs; what is tested here is what comes out.
settings.register_profile("steady", deadline=None, derandomize=False)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def device() -> Device:
    return Device.from_settings("cpu", "auto", 1)


@pytest.fixture(scope="session")
def tiny_model(device: Device) -> LoadedModel:
    """The stand-in pipeline, by way of the factory hook."""
    return load_from_factory("tests.support.tiny_sd:build_pipeline", device)


@pytest.fixture(scope="session")
def device_thread(device: Device) -> Iterator[ThreadPoolExecutor]:
    thread = device.new_executor()
    yield thread
    thread.shutdown()


@pytest.fixture
def engine(tiny_model: LoadedModel, device_thread: ThreadPoolExecutor) -> DiffusersEngine:
    return DiffusersEngine(tiny_model, device_thread)


@pytest.fixture(scope="session")
def embedded_server() -> Iterator[Addresses]:
    """A process that serves the model that ships with the project, as `serve` does where none is named."""
    with start_server() as addresses:
        yield addresses
