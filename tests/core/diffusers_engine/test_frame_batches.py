"""Encoding of long videos: the bytes and the order of the frames, and how far the encoding is ahead of the client."""

import asyncio
import gc
import weakref
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from codec_wire.encoder import LatentEncoder
from codec_wire.errors import Cancelled, InvalidLatents
from codec_wire.latents import LatentFrame, Modality
from codec_wire.request import GenerationRequest
from core.diffusers_engine import frame_batches
from core.diffusers_engine.frame_batches import FrameBatches
from core.diffusers_engine.generation_run import encode_frame
from core.engine import Job
from core.model import RequestLimits
from core.plan import StreamPlan, plan
from tests.support.serving import VIDEO_MODEL, bundle_of

MODEL = replace(VIDEO_MODEL, limits=RequestLimits(max_frames=1000))
FRAME_BYTES = 4 * 8 * 8
"""Size of the data of an int8 frame, without scales."""
FRAMES_OF_A_BATCH = 10


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_batches, "BATCH_BYTES", FRAMES_OF_A_BATCH * FRAME_BYTES)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the frames that were encoded so far."""
    numbers: list[int] = []

    def encode(encoder: LatentEncoder, latent: Tensor, plan: StreamPlan, *, seq: int) -> LatentFrame:
        numbers.append(seq)
        return encode_frame(encoder, latent, plan, seq=seq)

    monkeypatch.setattr(frame_batches, "encode_frame", encode)
    return numbers


def plan_for(frames: int, pipeline: str = "delta+int8") -> StreamPlan:
    request = GenerationRequest(
        prompt="x", modality=Modality.VIDEO, frames=frames, pipeline=pipeline, keyframe_interval=24
    )
    return plan(request, bundle_of(MODEL), MODEL)


def latents_for(frames: int) -> Tensor:
    return torch.randn((frames, 4, 8, 8), generator=torch.Generator().manual_seed(0))


async def all_frames(planned: StreamPlan, latents: Tensor) -> list[LatentFrame]:
    with closing(FrameBatches(planned, latents, Job())) as batches:
        frames = []
        while taken := await batches.take():
            frames += [event.frame for event in taken]
        assert await batches.take() == []
        return frames


async def wait_until_encoded(numbers: list[int], count: int) -> None:
    async with asyncio.timeout(60):
        while len(numbers) < count:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("pipeline", ["raw", "int4-adaptive", "delta+int8"])
@pytest.mark.parametrize("count", [1, 2, 11, 12, 97])
async def test_frames_are_those_of_one_encoder(pipeline: str, count: int) -> None:
    planned, latents = plan_for(count, pipeline), latents_for(count)
    encoder = LatentEncoder(planned.header)
    expected = [encode_frame(encoder, latents[seq], planned, seq=seq) for seq in range(count)]
    assert await all_frames(planned, latents) == expected


async def test_frame_larger_than_a_batch_is_a_batch(monkeypatch: pytest.MonkeyPatch, encoded: list[int]) -> None:
    monkeypatch.setattr(frame_batches, "BATCH_BYTES", 1)
    assert len(await all_frames(plan_for(5), latents_for(5))) == 5
    assert encoded == list(range(5))


async def test_next_batch_is_encoded_while_frames_are_sent_but_no_further_one(encoded: list[int]) -> None:
    with closing(FrameBatches(plan_for(100), latents_for(100), Job())) as batches:
        assert len(await batches.take()) == 1
        await wait_until_encoded(encoded, 1 + FRAMES_OF_A_BATCH)
        assert len(await batches.take()) == FRAMES_OF_A_BATCH
        await wait_until_encoded(encoded, 1 + 2 * FRAMES_OF_A_BATCH)
        await asyncio.to_thread(lambda: None)  # a thread is free, but nothing is to be encoded
        assert encoded == list(range(1 + 2 * FRAMES_OF_A_BATCH))


async def test_cancelled_job_gets_no_further_batch(encoded: list[int]) -> None:
    job = Job()
    with closing(FrameBatches(plan_for(100), latents_for(100), job)) as batches:
        await batches.take()
        job.cancel(Cancelled("the client disconnected"))
        with pytest.raises(Cancelled, match="the client disconnected"):
            await batches.take()
    assert len(encoded) <= 1 + FRAMES_OF_A_BATCH


async def test_job_that_is_cancelled_after_its_last_frame_has_ended() -> None:
    job = Job()
    with closing(FrameBatches(plan_for(1), latents_for(1), job)) as batches:
        assert len(await batches.take()) == 1
        job.cancel(Cancelled("the server is stopping"))
        assert await batches.take() == []


async def test_frames_before_an_invalid_batch_are_taken_before_the_error() -> None:
    latents = latents_for(30)
    latents[15] = float("nan")
    with closing(FrameBatches(plan_for(30), latents, Job())) as batches:
        assert [len(await batches.take()) for _ in range(2)] == [1, FRAMES_OF_A_BATCH]
        with pytest.raises(InvalidLatents):
            await batches.take()


async def test_closed_object_holds_no_latents() -> None:
    latents: Any = latents_for(100)
    reference = weakref.ref(latents)
    batches = FrameBatches(plan_for(100), latents, Job())
    await batches.take()
    batches.close()
    del latents
    async with asyncio.timeout(60):
        while reference() is not None:  # the thread encodes the rest of its batch
            gc.collect()
            await asyncio.sleep(0.001)
    assert await batches.take() == []


async def test_error_of_a_batch_that_is_not_taken_is_not_logged(
    encoded: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    latents = latents_for(30)
    latents[5] = float("nan")
    with closing(FrameBatches(plan_for(30), latents, Job())) as batches:
        await batches.take()
        await wait_until_encoded(encoded, 6)
        await asyncio.to_thread(lambda: None)
        await asyncio.sleep(0.01)
    del batches
    gc.collect()
    assert not caplog.records
