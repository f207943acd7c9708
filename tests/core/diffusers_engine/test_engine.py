"""The local engine with a real pipeline: cancellation within a step, and isolation of failed jobs.

tests/engines has the tests that run on every engine.
"""

import asyncio
import gc
import threading
import weakref
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import PNDMScheduler

from codec_wire.decoder import LatentDecoder
from codec_wire.errors import Cancelled, CodecError, InvalidLatents, ModelLoadError
from codec_wire.events import Frame, Started, Step
from codec_wire.request import GenerationRequest
from core.admission import Admission
from core.diffusers_engine import frame_batches, generation_run
from core.diffusers_engine.engine import DiffusersEngine, warm_up
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.sampler import sample
from core.engine import Job
from core.lifecycle import Lifecycle
from core.plan import StreamPlan, plan
from core.served import ModelInstance
from core.service import LatentService
from tests.support.held_sampler import HELD_STEP, hold_sampler
from tests.support.serving import bundle_of


def plan_for(model: LoadedModel, **fields: object) -> StreamPlan:
    values = {"prompt": "a snowy mountain at dusk", "size": (64, 64), "steps": 3, "pipeline": "raw"} | fields
    return plan(GenerationRequest(**values), bundle_of(model.info), model.info)  # type: ignore[arg-type]


async def frame_data(engine: DiffusersEngine, plan: StreamPlan, job: Job | None = None) -> bytes:
    async with aclosing(engine.generate(plan, job or Job())) as events:
        frames = [event.frame.data async for event in events if isinstance(event, Frame)]
    assert len(frames) == plan.latent_frames
    return frames[0]


@pytest.mark.parametrize("pipeline", ["int8", "int4", "int8-adaptive", "int4-adaptive"])
async def test_quantized_frames_decode_close_to_raw(
    engine: DiffusersEngine, tiny_model: LoadedModel, pipeline: str
) -> None:
    planned = plan_for(tiny_model, pipeline=pipeline)
    raw = np.frombuffer(await frame_data(engine, plan_for(tiny_model)), "<f2").reshape(planned.header.shape)
    frames = [
        event.frame async for event in engine.generate(planned, Job(reports_steps=True)) if isinstance(event, Frame)
    ]
    decoded = LatentDecoder(planned.header).decode(frames[0])
    limit = np.abs(raw).max() if planned.header.scales is None else 4  # the static scale of the test map
    assert np.abs(decoded - np.clip(raw, -limit, limit)).max() <= limit / planned.header.pipeline_spec.max_code


async def test_closing_the_stream_stops_sampling_within_a_step(
    engine: DiffusersEngine, tiny_model: LoadedModel
) -> None:
    done: list[int] = []
    planned = plan_for(tiny_model, steps=200)
    events = engine.generate(planned, Job(reports_steps=True))
    async for event in events:
        if isinstance(event, Step):
            done.append(event.index)
            if event.index == 3:
                break
    await events.aclose()
    # The device thread is free for the next job, long before 200 steps could have finished.
    assert await asyncio.wait_for(frame_data(engine, plan_for(tiny_model)), 5)
    assert done == [1, 2, 3]


async def test_progress_counts_the_steps_of_the_scheduler(engine: DiffusersEngine, tiny_model: LoadedModel) -> None:
    """PNDM, the default of SD 1.5, runs one step more than requested."""
    before = tiny_model.pipeline.scheduler
    tiny_model.pipeline.scheduler = PNDMScheduler.from_config(before.config, skip_prk_steps=True)
    try:
        events = [event async for event in engine.generate(plan_for(tiny_model, steps=5), Job(reports_steps=True))]
    finally:
        tiny_model.pipeline.scheduler = before
    assert [event for event in events if isinstance(event, Step)] == [Step(index, 6) for index in range(1, 7)]


async def test_cancelled_job_runs_no_further_step(tiny_model: LoadedModel) -> None:
    job, done = Job(), []

    def on_step(index: int, total: int) -> None:
        assert total == 50
        done.append(index)
        if index == 2:
            job.cancel(Cancelled("enough"))

    with pytest.raises(Cancelled, match="enough"):
        sample(tiny_model, plan_for(tiny_model, steps=50), job, on_step)
    assert done == [1, 2]


async def test_job_cancelled_in_the_queue_does_not_start(engine: DiffusersEngine, tiny_model: LoadedModel) -> None:
    long, waiting = engine.generate(plan_for(tiny_model, steps=250), Job()), Job()
    assert isinstance(await anext(long), Started)
    second = engine.generate(plan_for(tiny_model), waiting)
    first_event = asyncio.ensure_future(anext(second))
    await asyncio.sleep(0)
    waiting.cancel(Cancelled("never mind"))
    await long.aclose()
    with pytest.raises(Cancelled, match="never mind"):
        await first_event


async def test_non_finite_latents_raise_and_the_next_job_succeeds(
    engine: DiffusersEngine, tiny_model: LoadedModel
) -> None:
    weights = tiny_model.pipeline.unet.conv_out.bias
    before = weights.detach().clone()
    with torch.no_grad():
        weights.fill_(torch.nan)
    try:
        with pytest.raises(InvalidLatents):
            await frame_data(engine, plan_for(tiny_model))
    finally:
        with torch.no_grad():
            weights.copy_(before)
    assert await frame_data(engine, plan_for(tiny_model))


async def test_abandoned_job_is_active_until_the_device_has_ended_its_step(
    engine: DiffusersEngine, tiny_model: LoadedModel
) -> None:
    service = LatentService(Lifecycle(), Admission(1, 10**12))
    service.models.replace([ModelInstance(tiny_model.info, bundle_of(tiny_model.info), engine, "test")])
    with hold_sampler(tiny_model) as sampler:
        async with aclosing(service.generate(plan_for(tiny_model, steps=30), Job())) as events:
            await anext(events)
            await sampler.reached.wait()
        assert service.admission.jobs == 1
        sampler.release()
        await service.admission.wait_idle()
        assert sampler.steps == HELD_STEP


@pytest.mark.slow
async def test_warm_up_rejects_latents_of_an_unexpected_shape(tiny_model: LoadedModel) -> None:
    planned = plan_for(tiny_model)
    wrong_shape = replace(planned, header=replace(planned.header, shape=(4, 9, 9)))
    with pytest.raises(CodecError, match="expected"):
        warm_up(tiny_model, wrong_shape)


async def test_completed_job_is_not_active_although_its_call_has_not_returned(
    engine: DiffusersEngine, tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the next request of a client could be refused: it sends it as soon as it has the last frame."""
    run, may_return = DiffusersEngine._run, threading.Event()

    def run_and_wait(*arguments: Any) -> None:
        run(*arguments)
        may_return.wait()

    monkeypatch.setattr(DiffusersEngine, "_run", run_and_wait)
    service = LatentService(Lifecycle(), Admission(1, 10**12))
    service.models.replace([ModelInstance(tiny_model.info, bundle_of(tiny_model.info), engine, "test")])
    try:
        async with aclosing(service.generate(plan_for(tiny_model, steps=1), Job())) as events:
            assert [event async for event in events]
        assert service.admission.jobs == 0
    finally:
        may_return.set()


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["out of memory", "cancelled", "not finite"])
async def test_failed_job_frees_its_tensors(fault: str, engine: DiffusersEngine, tiny_model: LoadedModel) -> None:
    """With the garbage collector disabled: on a full GPU the next job would fail before it runs."""
    inputs: list[weakref.ref[torch.Tensor]] = []
    job = Job()

    def watch(_module: object, arguments: tuple[torch.Tensor, ...], output: object) -> object:
        inputs.append(weakref.ref(arguments[0]))
        if fault == "out of memory":
            raise torch.OutOfMemoryError("full")
        if fault == "cancelled":
            job.cancel(Cancelled("enough"))
            return output
        return (torch.full_like(arguments[0], torch.nan)[:1].repeat(2, 1, 1, 1),)

    hook = tiny_model.pipeline.unet.register_forward_hook(watch)
    gc.collect()
    gc.disable()
    try:
        planned = plan_for(tiny_model, steps=1)
        service = LatentService(Lifecycle(), Admission(1, 10**12))
        service.models.replace([ModelInstance(tiny_model.info, bundle_of(tiny_model.info), engine, "test")])
        with pytest.raises(CodecError):
            async with aclosing(service.generate(planned, job)) as events:
                async for _ in events:
                    pass
        await asyncio.wrap_future(engine._thread.submit(lambda: None))
        assert inputs
        assert [reference() for reference in inputs] == [None] * len(inputs)
    finally:
        gc.enable()
        hook.remove()


@pytest.mark.parametrize("fault", ["not finite", "raises"])
def test_warm_up_raises_if_the_model_cannot_generate(fault: str, tiny_model: LoadedModel) -> None:
    def break_output(_module: object, _arguments: object, output: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        if fault == "raises":
            raise ValueError("no such timestep")
        return (torch.full_like(output[0], torch.nan),)

    hook = tiny_model.pipeline.unet.register_forward_hook(break_output)
    try:
        with pytest.raises(ModelLoadError, match="was loaded but cannot generate: "):
            warm_up(tiny_model, plan_for(tiny_model))
    finally:
        hook.remove()


async def test_header_of_a_short_generation_waits_for_the_frame(
    engine: DiffusersEngine, tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = plan_for(tiny_model)
    first = [event async for event in engine.generate(planned, Job())]
    assert first[0] == Started(planned.header)  # nothing is known about the duration
    monkeypatch.setattr("core.diffusers_engine.engine.SHORT_JOB_S", 60.0)
    second = [event async for event in engine.generate(planned, Job())]
    assert second == [Started(planned.header, is_followed=True), *first[1:]]


async def test_event_loop_encodes_small_images_while_another_job_waits(
    engine: DiffusersEngine, tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = generation_run.encode_frame
    encoders: list[threading.Thread] = []

    def record_thread(*arguments: Any, **options: Any) -> Any:
        encoders.append(threading.current_thread())
        return encode(*arguments, **options)

    monkeypatch.setattr(generation_run, "encode_frame", record_thread)
    jobs = [Job() for _ in range(3)]
    together = await asyncio.gather(*(frame_data(engine, plan_for(tiny_model), job) for job in jobs))
    # The last job is encoded on the device thread, because no other job waits for this thread.
    assert [thread is threading.main_thread() for thread in encoders] == [True, True, False]
    assert all(job.record.encode_s > 0 for job in jobs)
    alone = await frame_data(engine, plan_for(tiny_model))
    assert encoders[-1] is encoders[-2]
    assert set(together) == {alone}


async def test_frames_are_encoded_while_the_next_job_samples(
    engine: DiffusersEngine, tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small latents are encoded on the device thread, because that takes less time than waking another thread.
    monkeypatch.setattr("core.diffusers_engine.generation_run.SMALL_IMAGE_BYTES", 0)
    next_job_samples = threading.Event()
    encode = generation_run.encode_frame

    def wait_and_encode(*arguments: Any, **options: Any) -> Any:
        assert next_job_samples.wait(60), "the device waits for the encoder"
        return encode(*arguments, **options)

    monkeypatch.setattr(frame_batches, "encode_frame", wait_and_encode)

    async def first() -> bytes:
        return await frame_data(engine, plan_for(tiny_model))

    async def second() -> None:
        async with aclosing(engine.generate(plan_for(tiny_model, seed=1), Job(reports_steps=True))) as events:
            async for event in events:
                if isinstance(event, Step):
                    next_job_samples.set()

    encoded, _ = await asyncio.gather(first(), second())
    monkeypatch.undo()
    assert encoded == await frame_data(engine, plan_for(tiny_model))
