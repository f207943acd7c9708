"""The engine on Ray Serve against the local engine: the same bytes, whichever replica runs the job."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest

from codec_wire.events import Preview, Started, Step
from codec_wire.latents import LatentFrame, LatentStreamHeader, Modality
from codec_wire.message_decoder import Message
from codec_wire.pipelines import PIPELINES
from core import decoding, encoding
from core.decode_plan import DecodePlan, DecodeRequest
from core.encode_plan import EncodeRequest
from core.engine import Job
from core.pixel_format import PixelFormat
from core.probe import sample_image
from core.service import LatentService
from core.tensor_coding import TensorDecodeRequest, decode_tensor
from core.tensor_vae import PixelLayout, TensorData, TensorScaling
from tests.support.held_model import HeldFiles
from tests.support.service_calls import generate, generate_events, request_for

pytestmark = pytest.mark.slow

VIDEO: dict[str, Any] = {"modality": Modality.VIDEO, "frames": 9, "fps": 8, "keyframe_interval": 4}


@pytest.mark.parametrize("pipeline", ["raw", "int8", "int4-adaptive"])
async def test_image_has_the_bytes_of_the_local_engine(
    pipeline: str, service: LatentService, local: LatentService
) -> None:
    fields: dict[str, Any] = {"pipeline": pipeline, "negative_prompt": "fog", "guidance_scale": 2.5}
    assert await generate(service, **fields) == await generate(local, **fields)


@pytest.mark.parametrize("pipeline", ["raw", "int4", "delta+int8"])
async def test_video_has_the_bytes_of_the_local_engine(
    pipeline: str, service: LatentService, local: LatentService
) -> None:
    assert await generate(service, pipeline=pipeline, **VIDEO) == await generate(local, pipeline=pipeline, **VIDEO)


async def test_image_to_image_has_the_bytes_of_the_local_engine(service: LatentService, local: LatentService) -> None:
    fields: dict[str, Any] = {"image": sample_image(3), "strength": 0.5, "steps": 4}
    assert await generate(service, **fields) == await generate(local, **fields)


async def test_all_replicas_return_the_same_bytes(service: LatentService, files: HeldFiles) -> None:
    streams: list[Any] = []
    while len(set(files.processes())) < 2:
        streams += await asyncio.gather(*(generate(service, pipeline="int8") for _ in range(6)))
    assert all(stream == streams[0] for stream in streams)


async def test_steps_and_previews_are_those_of_the_local_engine(service: LatentService, local: LatentService) -> None:
    fields: dict[str, Any] = {"steps": 5, "preview_every": 2}
    expected = await generate_events(local, Job(reports_steps=True), **fields)
    events = await generate_events(service, Job(reports_steps=True), **fields)
    assert [event for event in events if isinstance(event, Step)] == [Step(index, 5) for index in range(1, 6)]
    for kind in (Preview, Step):
        assert [event for event in events if isinstance(event, kind)] == [
            event for event in expected if isinstance(event, kind)
        ]


async def test_times_of_the_replica_are_recorded(service: LatentService) -> None:
    job = Job()
    await generate(service, job, steps=4)
    assert job.record.steps == 4
    assert job.record.sampling_s > 0
    assert job.record.sampling_at is not None
    assert service.admission.seconds_per_cost > 0


async def rendered(service: LatentService, partial_images: int) -> list[Any]:
    plans = service.plan_rendered(request_for(steps=3, size=(256, 256)), 2, partial_images)
    async with aclosing(service.render(plans, Job())) as events:
        return [event.frames async for event in events if not isinstance(event, Started)]


async def test_pixels_are_those_of_the_local_engine(service: LatentService, local: LatentService) -> None:
    expected = await rendered(local, 1)
    received = await rendered(service, 1)
    assert len(received) == 4
    assert all(np.array_equal(one, other) for one, other in zip(received, expected, strict=True))


async def messages_of(stream: tuple[LatentStreamHeader, Sequence[LatentFrame]]) -> AsyncIterator[Message]:
    header, frames = stream
    yield header
    for frame in frames:
        yield frame


async def decoded(service: LatentService, stream: Any) -> list[bytes]:
    request = DecodeRequest((PixelFormat.PNG,), (PixelFormat.RGB,))
    parts = decoding.decode(service, request, messages_of(stream), Job())  # type: ignore[arg-type]
    return [part async for part in parts if not isinstance(part, DecodePlan)]


async def test_decoding_and_encoding_return_the_bytes_of_the_local_vae(
    service: LatentService, local: LatentService
) -> None:
    for fields in ({}, VIDEO):
        stream = await generate(local, **fields)
        assert await decoded(service, stream) == await decoded(local, stream)
    encoded = []
    for front in (service, local):
        plan, _ = encoding.plan(front, EncodeRequest(sample_image(1), pipeline="int8", size=(64, 64)))
        encoded.append([event async for event in encoding.encode(front, plan, Job())])
    assert encoded[0] == encoded[1]


async def test_tensors_are_those_of_the_local_vae(service: LatentService, local: LatentService) -> None:
    values = np.random.default_rng(1).standard_normal((1, 4, 8, 8)).astype("<f4")
    latents = TensorData(values.tobytes(), values.shape, "float32")
    request = TensorDecodeRequest(latents, TensorScaling(as_pipeline=True), PixelLayout.BYTES)
    assert await decode_tensor(service, request, Job()) == await decode_tensor(local, request, Job())


async def test_requests_are_routed_by_model(service: LatentService) -> None:
    names = {served.model.name for served in service.models}
    assert len(names) == 2
    for name in names:
        assert service.plan(request_for(model=name)).model == name
        _, frames = await generate(service, model=name)
        assert frames[-1].done


def test_pipelines_of_the_map_are_those_of_the_local_model(service: LatentService, local: LatentService) -> None:
    (expected,) = local.models
    served = next(one for one in service.models if one.model.name == expected.model.name)
    assert served.bundle == expected.bundle
    assert [entry.name for entry in served.bundle.latent_map.pipelines] == list(PIPELINES)
    assert (served.device, served.pixel_checks, served.role) == (expected.device, expected.pixel_checks, expected.role)
