"""The results of an engine: those of the pipeline, and the same bytes in every process and at any load."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest
import torch

from codec_wire.events import Frame, Preview, Started, Step
from codec_wire.latents import LatentFrame, LatentStreamHeader, Modality
from codec_wire.message_decoder import Message
from codec_wire.pipelines import PIPELINES
from core import decoding, encoding
from core.decode_plan import DecodePlan, DecodeRequest
from core.diffusers_engine.engine import DiffusersEngine
from core.encode_plan import EncodeRequest
from core.engine import Job
from core.pixel_format import PixelFormat
from core.probe import sample_image
from core.service import LatentService
from core.tensor_coding import TensorDecodeRequest, decode_tensor
from core.tensor_vae import PixelLayout, TensorData, TensorScaling
from tests.support.service_calls import generate, generate_events, request_for

pytestmark = pytest.mark.slow

VIDEO: dict[str, Any] = {"modality": Modality.VIDEO, "frames": 9, "fps": 8, "keyframe_interval": 4}


async def test_frame_contains_the_latents_that_the_pipeline_returns(
    service: LatentService, local: LatentService
) -> None:
    """With the pipeline of `local`, on its thread, because the number of CPU threads affects the bits."""
    (served,) = local.models
    assert isinstance(served.engine, DiffusersEngine)
    direct = served.engine._thread.submit(
        served.engine._model.pipeline,
        "a snowy mountain",
        negative_prompt="fog",
        guidance_scale=3.0,
        width=64,
        height=64,
        num_inference_steps=3,
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
    ).result()
    _, (frame,) = await generate(service, pipeline="raw", negative_prompt="fog", guidance_scale=3.0, steps=3)
    assert frame.data == direct.images[0].to(torch.float16).numpy().tobytes()


async def test_each_sampling_field_changes_the_latents(service: LatentService) -> None:
    first = await generate(service)
    assert first == await generate(service)
    changes: list[dict[str, Any]] = [
        {"seed": 43},
        {"prompt": "a sea"},
        {"negative_prompt": "snow"},
        {"guidance_scale": 1.5},
        {"extra": {"clip_skip": 1}},
        {"extra": {"guidance_rescale": 0.5}},
        {"steps": 4},
        {"prompt": "a (snowy)1.4 mountain", "prompt_syntax": "compel"},
    ]
    for change in changes:
        assert (await generate(service, **change))[1] != first[1], change


async def test_eight_concurrent_jobs_give_the_same_latents_as_each_alone(service: LatentService) -> None:
    fields: list[dict[str, Any]] = [{"seed": seed, "steps": 2 + seed % 3, "pipeline": "raw"} for seed in range(8)]
    alone = [await generate(service, **values) for values in fields]
    assert await asyncio.gather(*(generate(service, **values) for values in fields)) == alone
    assert len({frames[0].data for _, frames in alone}) == 8


async def test_steps_are_yielded_only_if_the_job_reports_them(service: LatentService) -> None:
    events = await generate_events(service, steps=3)
    assert [type(event) for event in events] == [Started, Frame]
    events = await generate_events(service, Job(reports_steps=True), steps=3)
    assert [type(event) for event in events] == [Started, Step, Step, Step, Frame]
    assert events[1:4] == [Step(1, 3), Step(2, 3), Step(3, 3)]
    assert events[4].frame.done


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


async def test_steps_and_previews_are_those_of_the_local_engine(service: LatentService, local: LatentService) -> None:
    fields: dict[str, Any] = {"steps": 5, "preview_every": 2}
    expected = await generate_events(local, Job(reports_steps=True), **fields)
    events = await generate_events(service, Job(reports_steps=True), **fields)
    assert [event for event in events if isinstance(event, Step)] == [Step(index, 5) for index in range(1, 6)]
    for kind in (Preview, Step):
        assert [event for event in events if isinstance(event, kind)] == [
            event for event in expected if isinstance(event, kind)
        ]


async def test_times_are_recorded(service: LatentService) -> None:
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
    for each in (service, local):
        plan, _ = encoding.plan(each, EncodeRequest(sample_image(1), pipeline="int8", size=(64, 64)))
        encoded.append([event async for event in encoding.encode(each, plan, Job())])
    assert encoded[0] == encoded[1]


async def test_tensors_are_those_of_the_local_vae(service: LatentService, local: LatentService) -> None:
    values = np.random.default_rng(1).standard_normal((1, 4, 8, 8)).astype("<f4")
    latents = TensorData(values.tobytes(), values.shape, "float32")
    request = TensorDecodeRequest(latents, TensorScaling(as_pipeline=True), PixelLayout.BYTES)
    assert await decode_tensor(service, request, Job()) == await decode_tensor(local, request, Job())


def test_pipelines_of_the_map_are_those_of_the_local_model(service: LatentService, local: LatentService) -> None:
    (expected,) = local.models
    served = next(one for one in service.models if one.model.name == expected.model.name)
    assert served.bundle == expected.bundle
    assert [entry.name for entry in served.bundle.latent_map.pipelines] == list(PIPELINES)
    assert (served.device, served.pixel_checks, served.role) == (expected.device, expected.pixel_checks, expected.role)
