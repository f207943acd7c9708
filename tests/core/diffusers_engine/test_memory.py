"""Memory of generations: measured at the start, predicted for every request, and limited."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from codec_pixels.device import Device
from codec_pixels.device_memory import free_memory
from codec_pixels.device_thread import DeviceThread
from codec_server.warm_up import warm_ups
from codec_wire.latents import Modality
from codec_wire.request import GenerationRequest
from core.diffusers_engine.engine import measure_memory, warm_up
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.memory_meter import measure_peak
from core.memory_model import OVERHEAD, MemoryModel
from core.plan import StreamPlan, plan
from core.role import Role
from tests.support.factories import load_from_factory
from tests.support.serving import bundle_of

CPU = torch.device("cpu")
MIB = 2**20

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def thread() -> Iterator[DeviceThread]:
    """A device thread with one CPU thread."""
    thread = Device.from_settings("cpu", "fp32", 1).new_executor()
    yield thread
    thread.shutdown()


@pytest.fixture(scope="module")
def video_model(device: Device) -> LoadedModel:
    return load_from_factory("tests.support.families.videos:build_animatediff", device)


@pytest.fixture(scope="module")
def memory(video_model: LoadedModel, thread: DeviceThread) -> MemoryModel:
    (one,) = warm_ups(video_model, bundle_of(video_model.info), Role.ALL, None)
    measured = thread.submit(one.run).result()
    assert measured is not None
    return measured


def video_plan(model: LoadedModel, side: int, frames: int, *, rendered: bool = False) -> StreamPlan:
    request = GenerationRequest(
        prompt="x", modality=Modality.VIDEO, size=(side, side), frames=frames, steps=2, pipeline="raw"
    )
    return replace(plan(request, bundle_of(model.info), model.info), rendered=rendered)


def test_peak_contains_tensors_that_are_alive_at_the_same_time_and_no_earlier_ones() -> None:
    before = torch.zeros(MIB)
    with measure_peak(CPU) as peak:
        for _ in range(3):
            first = torch.zeros(MIB)
            del first
        second = before + 1
        second.add_(1)
        view = second[:10]
        third = second * 2
    assert peak.size == 2 * 4 * MIB
    assert (view.numel(), third.numel()) == (10, MIB)


def test_convolutions_count_the_copies_of_the_cpu_library() -> None:
    image, kernel = torch.zeros(1, 1, 512, 512), torch.zeros(1, 1, 1, 1)
    with measure_peak(CPU) as peak:
        torch.nn.functional.conv2d(image, kernel)
    assert peak.size == 3 * image.nbytes


@pytest.mark.parametrize(("side", "frames"), [(128, 5), (64, 33)])
def test_predicted_memory_of_a_video_is_not_below_the_measured_one(
    video_model: LoadedModel, memory: MemoryModel, thread: DeviceThread, side: int, frames: int
) -> None:
    measured = thread.submit(warm_up, video_model, video_plan(video_model, side, frames)).result()
    for rendered, peak in ((False, measured.sampling), (True, max(measured.sampling, measured.decoding))):
        predicted = memory.generation(video_plan(video_model, side, frames, rendered=rendered))
        assert peak <= predicted.peak < 8 * peak + OVERHEAD


def test_memory_grows_with_pixels_and_frames(video_model: LoadedModel, memory: MemoryModel) -> None:
    small, large = (memory.generation(video_plan(video_model, side, n)) for side, n in ((64, 9), (256, 240)))
    assert 10 * small.peak < large.peak
    assert large.result == 240 * 4 * 32 * 32 * 4
    pixels = memory.generation(video_plan(video_model, 256, 240, rendered=True))
    assert pixels.result == 240 * 256 * 256 * 3


def test_partial_images_need_memory_while_sampling(video_model: LoadedModel, memory: MemoryModel) -> None:
    rendered = video_plan(video_model, 64, 9, rendered=True)
    with_partial = memory.generation(replace(rendered, partial_images=1)).peak
    assert with_partial > memory.generation(rendered).peak


def test_model_with_compiled_modules_is_not_measured(
    video_model: LoadedModel,
    thread: DeviceThread,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(video_model.pipeline.unet, "_compiled_call_impl", video_model.pipeline.unet._call_impl)
    small = video_plan(video_model, 64, 2)
    with caplog.at_level("INFO"):
        assert thread.submit(measure_memory, video_model, small, small).result() is None
    assert f"the memory of {video_model.info.name} is not limited, because" in caplog.text


def test_wide_plan_that_fails_does_not_stop_the_start(
    video_model: LoadedModel, thread: DeviceThread, caplog: pytest.LogCaptureFixture
) -> None:
    small = video_plan(video_model, 64, 2)
    broken = replace(small, latent_frames=3)
    assert thread.submit(measure_memory, video_model, small, broken).result() is None
    assert "is not limited, because it was not measured" in caplog.text


def test_free_memory_is_that_of_the_machine_or_of_the_control_group() -> None:
    free = free_memory(CPU)
    assert free is not None
    assert 0 < free < 2**50
    assert free_memory(torch.device("meta")) is None
