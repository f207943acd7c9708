"""The local engine on a real pipeline: deterministic, cancellable within a step, one bad job hurts no other."""

import asyncio
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import PNDMScheduler

from codec_wire.decoder import LatentDecoder
from codec_wire.errors import Cancelled, CodecError, InvalidLatents, ModelLoadError, OutOfMemory
from codec_wire.events import Frame, Started, Step
from codec_wire.request import GenerationRequest
from core.admission import Admission
from core.diffusers_engine.engine import DiffusersEngine, warm_up
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.sampler import sample
from core.engine import Job
from core.lifecycle import Lifecycle
from core.plan import StreamPlan, plan
from core.served import ModelInstance
from core.service import LatentService
from tests.support.serving import bundle_of


def plan_for(model: LoadedModel, **fields: object) -> StreamPlan:
    values = {"prompt": "a snowy mountain at dusk", "size": (64, 64), "steps": 3, "pipeline": "raw"} | fields
    return plan(GenerationRequest(**values), bundle_of(model.info), model.info)  # type: ignore[arg-type]


async def run(engine: DiffusersEngine, what: StreamPlan) -> bytes:
    async with aclosing(engine.generate(what, Job())) as events:
        frames = [event.frame.data async for event in events if isinstance(event, Frame)]
    assert len(frames) == what.frames
    return frames[0]


async def test_events_come_in_order(engine: DiffusersEngine, tiny_model: LoadedModel) -> None:
    what = plan_for(tiny_model)
    events = [event async for event in engine.generate(what, Job())]
    assert events[0] == Started(what.header)
    assert events[1:4] == [Step(1, 3), Step(2, 3), Step(3, 3)]
    assert isinstance(events[4], Frame)
    assert events[4].frame.done
    assert len(events) == 5


async def test_the_frame_holds_what_the_pipeline_itself_returns(
    engine: DiffusersEngine, tiny_model: LoadedModel, device_thread: ThreadPoolExecutor
) -> None:
    what = plan_for(tiny_model, negative_prompt="fog", guidance_scale=3.0)
    # On the same thread: the number of CPU threads is part of what makes the bits.
    direct = device_thread.submit(
        tiny_model.pipeline,
        "a snowy mountain at dusk",
        negative_prompt="fog",
        guidance_scale=3.0,
        width=64,
        height=64,
        num_inference_steps=3,
        generator=torch.Generator().manual_seed(42),
        output_type="latent",
    ).result()
    data = await run(engine, what)
    assert data == direct.images[0].to(torch.float16).numpy().tobytes()


async def test_every_field_that_should_change_the_latents_does(
    engine: DiffusersEngine, tiny_model: LoadedModel
) -> None:
    first = await run(engine, plan_for(tiny_model))
    assert first == await run(engine, plan_for(tiny_model))
    changes: list[dict[str, object]] = [
        {"seed": 43},
        {"prompt": "a sea"},
        {"negative_prompt": "snow"},
        {"guidance_scale": 1.5},
        {"steps": 4},
    ]
    for change in changes:
        assert await run(engine, plan_for(tiny_model, **change)) != first, change


async def test_eight_at_once_give_what_each_gives_alone(engine: DiffusersEngine, tiny_model: LoadedModel) -> None:
    plans = [plan_for(tiny_model, seed=seed, steps=2 + seed % 3) for seed in range(8)]
    alone = [await run(engine, what) for what in plans]
    together = await asyncio.gather(*(run(engine, what) for what in plans))
    assert together == alone
    assert len(set(alone)) == 8


@pytest.mark.parametrize("pipeline", ["int8", "int4", "int8-adaptive", "int4-adaptive"])
async def test_quantized_frames_decode_close_to_raw(
    engine: DiffusersEngine, tiny_model: LoadedModel, pipeline: str
) -> None:
    what = plan_for(tiny_model, pipeline=pipeline)
    raw = np.frombuffer(await run(engine, plan_for(tiny_model)), "<f2").reshape(what.header.shape)
    frames = [event.frame async for event in engine.generate(what, Job()) if isinstance(event, Frame)]
    decoded = LatentDecoder(what.header).decode(frames[0])
    limit = np.abs(raw).max() if what.header.scales is None else 4  # the test map's static scale
    assert np.abs(decoded - np.clip(raw, -limit, limit)).max() <= limit / what.header.pipeline_spec.max_code


async def test_closing_the_stream_stops_the_sampler_within_a_step(
    engine: DiffusersEngine, tiny_model: LoadedModel
) -> None:
    done: list[int] = []
    what = plan_for(tiny_model, steps=200)
    events = engine.generate(what, Job())
    async for event in events:
        if isinstance(event, Step):
            done.append(event.index)
            if event.index == 3:
                break
    job_ran_on = len(done)
    await events.aclose()
    # The next job runs: the thread is free, and took no more than the step it was in.
    assert await asyncio.wait_for(run(engine, plan_for(tiny_model)), 5)
    assert job_ran_on == 3


async def test_progress_counts_the_schedulers_own_steps(engine: DiffusersEngine, tiny_model: LoadedModel) -> None:
    """PNDM, the default of SD 1.5, takes one step more than it is asked for."""
    before = tiny_model.pipeline.scheduler
    tiny_model.pipeline.scheduler = PNDMScheduler.from_config(before.config, skip_prk_steps=True)
    try:
        events = [event async for event in engine.generate(plan_for(tiny_model, steps=5), Job())]
    finally:
        tiny_model.pipeline.scheduler = before
    assert [event for event in events if isinstance(event, Step)] == [Step(index, 6) for index in range(1, 7)]


async def test_a_cancelled_job_samples_no_further_step(tiny_model: LoadedModel) -> None:
    job, done = Job(), []

    def on_step(index: int, total: int) -> None:
        assert total == 50
        done.append(index)
        if index == 2:
            job.cancel(Cancelled("enough"))

    with pytest.raises(Cancelled, match="enough"):
        sample(tiny_model, plan_for(tiny_model, steps=50), job, on_step)
    assert done == [1, 2]


async def test_a_job_cancelled_while_it_waits_never_starts(engine: DiffusersEngine, tiny_model: LoadedModel) -> None:
    long, waiting = engine.generate(plan_for(tiny_model, steps=250), Job()), Job()
    assert isinstance(await anext(long), Started)
    second = engine.generate(plan_for(tiny_model), waiting)
    first_event = asyncio.ensure_future(anext(second))
    await asyncio.sleep(0)
    waiting.cancel(Cancelled("never mind"))
    await long.aclose()
    with pytest.raises(Cancelled, match="never mind"):
        await first_event


async def test_latents_that_are_not_finite_are_an_error_and_the_next_job_works(
    engine: DiffusersEngine, tiny_model: LoadedModel
) -> None:
    weights = tiny_model.pipeline.unet.conv_out.bias
    before = weights.detach().clone()
    with torch.no_grad():
        weights.fill_(torch.nan)
    try:
        with pytest.raises(InvalidLatents):
            await run(engine, plan_for(tiny_model))
    finally:
        with torch.no_grad():
            weights.copy_(before)
    assert await run(engine, plan_for(tiny_model))


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (torch.OutOfMemoryError("full"), OutOfMemory),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), OutOfMemory),
        (RuntimeError("something else"), CodecError),
        (SystemExit(3), CodecError),
    ],
)
async def test_a_failing_pipeline_is_an_error_and_the_next_job_works(
    engine: DiffusersEngine, tiny_model: LoadedModel, raised: BaseException, expected: type[CodecError]
) -> None:
    def fail(*_arguments: object) -> None:
        raise raised

    hook = tiny_model.pipeline.unet.register_forward_pre_hook(fail)
    try:
        with pytest.raises(expected) as caught:
            await asyncio.wait_for(run(engine, plan_for(tiny_model)), 20)
        assert "something else" not in str(caught.value)
    finally:
        hook.remove()
    assert await run(engine, plan_for(tiny_model))


async def test_a_model_that_makes_other_latents_than_planned_is_refused(tiny_model: LoadedModel) -> None:
    what = plan_for(tiny_model)
    wrong = replace(what, header=replace(what.header, shape=(4, 9, 9)))
    with pytest.raises(CodecError, match="were planned"):
        warm_up(tiny_model, wrong)


@pytest.mark.parametrize("way", ["out of memory", "cancelled", "not finite"])
async def test_a_failed_job_keeps_no_tensor_alive(way: str, engine: DiffusersEngine, tiny_model: LoadedModel) -> None:
    """Without the help of the garbage collector: on a full card the next job would not wait for it."""
    seen: list[weakref.ref[torch.Tensor]] = []
    job = Job()

    def watch(_module: object, arguments: tuple[torch.Tensor, ...], output: object) -> object:
        seen.append(weakref.ref(arguments[0]))
        if way == "out of memory":
            raise torch.OutOfMemoryError("full")
        if way == "cancelled":
            job.cancel(Cancelled("enough"))
            return output
        return (torch.full_like(arguments[0], torch.nan)[:1].repeat(2, 1, 1, 1),)

    hook = tiny_model.pipeline.unet.register_forward_hook(watch)
    gc.collect()
    gc.disable()
    try:
        what = plan_for(tiny_model, steps=1)
        service = LatentService(Lifecycle(), Admission(1, 10**12))
        service.models.replace([ModelInstance(tiny_model.info, bundle_of(tiny_model.info), engine, "test")])
        with pytest.raises(CodecError):
            async with aclosing(service.generate(what, job)) as events:
                async for _ in events:
                    pass
        await asyncio.wrap_future(engine._thread.submit(lambda: None))
        assert seen
        assert [reference() for reference in seen] == [None] * len(seen)
    finally:
        gc.enable()
        hook.remove()


@pytest.mark.parametrize("fault", ["not finite", "raises"])
def test_a_model_that_cannot_generate_is_not_loaded(fault: str, tiny_model: LoadedModel) -> None:
    def break_it(_module: object, _arguments: object, output: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        if fault == "raises":
            raise ValueError("no such timestep")
        return (torch.full_like(output[0], torch.nan),)

    hook = tiny_model.pipeline.unet.register_forward_hook(break_it)
    try:
        with pytest.raises(ModelLoadError, match="tiny-sd is loaded but cannot generate|cannot generate: "):
            warm_up(tiny_model, plan_for(tiny_model))
    finally:
        hook.remove()
