"""LatentService.generate: a stream ends exactly once and in the same way for every failure of the engine."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import numpy as np
import pytest

from codec_wire.encoder import LatentEncoder
from codec_wire.errors import CodecError, DeadlineExceeded, NotReady, OutOfMemory, TruncatedStream
from codec_wire.events import Frame, Started
from codec_wire.latents import FinishReason
from codec_wire.request import GenerationRequest
from core.admission import Admission
from core.engine import Event, Job
from core.lifecycle import Lifecycle, State
from core.plan import StreamPlan
from core.served import ModelInstance
from core.service import LatentService
from tests.support.serving import MODEL, bundle_of

Script = Callable[[StreamPlan], AsyncGenerator[Event, None]]


class ScriptedEngine:
    """An engine whose events come from an async generator function of the test."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        return self._script(plan)


def frame_of(plan: StreamPlan) -> Frame:
    return Frame(LatentEncoder(plan.header).encode(np.zeros(plan.header.shape), keyframe=True, last=True))


async def events_of(script: Script, job: Job | None = None) -> tuple[list[Event], CodecError | None]:
    """Return the events that a service with a ScriptedEngine yields, and the error that it raises, if any."""
    service = LatentService(Lifecycle(), Admission(1, 10**12))
    service.models.replace([ModelInstance(MODEL, bundle_of(MODEL), ScriptedEngine(script), "test")])
    service.lifecycle.transition_to(State.SERVING)
    plan = service.plan(GenerationRequest(prompt="a sea", size=(64, 64), steps=1))
    received: list[Event] = []
    error: CodecError | None = None
    try:
        async with aclosing(service.generate(plan, job or Job())) as events:
            async for event in events:
                received.append(event)  # noqa: PERF401 - keep the events before an error
    except CodecError as raised:
        error = raised
    assert service.admission.jobs == 0
    return received, error


def is_error_frame(event: Event) -> bool:
    return isinstance(event, Frame) and event.frame.finish_reason is FinishReason.ERROR and event.frame.data == b""


async def test_failure_before_the_start_yields_no_events() -> None:
    async def script(plan: StreamPlan) -> AsyncGenerator[Event, None]:
        if plan.steps > 1:
            yield Started(plan.header)
        raise OutOfMemory("full")

    received, error = await events_of(script)
    assert received == []
    assert isinstance(error, OutOfMemory)


async def test_failure_after_the_start_yields_an_error_frame() -> None:
    async def script(plan: StreamPlan) -> AsyncGenerator[Event, None]:
        yield Started(plan.header)
        raise OutOfMemory("full")

    received, error = await events_of(script)
    assert len(received) == 2
    assert is_error_frame(received[1])
    assert isinstance(error, OutOfMemory)


async def test_failure_after_the_last_frame_is_not_raised() -> None:
    async def script(plan: StreamPlan) -> AsyncGenerator[Event, None]:
        yield Started(plan.header)
        yield frame_of(plan)
        raise NotReady("upstream unavailable", 1)

    received, error = await events_of(script)
    assert error is None
    assert [isinstance(event, Frame) for event in received] == [False, True]
    assert not is_error_frame(received[1])


async def test_deadline_after_the_last_frame_is_not_raised() -> None:
    async def script(plan: StreamPlan) -> AsyncGenerator[Event, None]:
        yield Started(plan.header)
        yield frame_of(plan)
        await asyncio.Event().wait()

    received, error = await events_of(script, Job(asyncio.get_running_loop().time() + 0.05))
    assert error is None
    assert len(received) == 2


async def test_stream_without_a_last_frame_is_truncated() -> None:
    async def script(plan: StreamPlan) -> AsyncGenerator[Event, None]:
        yield Started(plan.header)

    received, error = await events_of(script)
    assert is_error_frame(received[1])
    assert isinstance(error, TruncatedStream)


async def test_timeout_error_of_the_engine_is_an_internal_error() -> None:
    async def script(plan: StreamPlan) -> AsyncGenerator[Event, None]:
        yield Started(plan.header)
        raise TimeoutError("a socket")

    _, error = await events_of(script, Job(asyncio.get_running_loop().time() + 60))
    assert type(error) is CodecError
    assert "socket" not in str(error)


async def test_deadline_while_sampling_raises_deadline_exceeded() -> None:
    async def script(plan: StreamPlan) -> AsyncGenerator[Event, None]:
        yield Started(plan.header)
        await asyncio.Event().wait()

    received, error = await events_of(script, Job(asyncio.get_running_loop().time() + 0.05))
    assert is_error_frame(received[1])
    assert isinstance(error, DeadlineExceeded)


async def test_event_after_the_last_frame_is_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    async def script(plan: StreamPlan) -> AsyncGenerator[Event, None]:
        yield Started(plan.header)
        yield frame_of(plan)
        yield frame_of(plan)

    received, error = await events_of(script)
    assert [type(event) for event in received] == [Started, Frame]
    assert error is None
    assert "the engine sent an event after the last frame" in caplog.text


async def test_raised_error_has_no_cause_and_no_context() -> None:
    async def script(plan: StreamPlan) -> AsyncGenerator[Event, None]:
        yield Started(plan.header)
        try:
            raise MemoryError("inner")
        except MemoryError as inner:
            raise OutOfMemory("full") from inner

    _, error = await events_of(script)
    assert error is not None
    assert (error.__cause__, error.__context__) == (None, None)


@pytest.mark.parametrize("serving", [True, False])
async def test_request_is_rejected_unless_serving_with_a_model(serving: bool) -> None:
    service = LatentService(Lifecycle(), Admission(1, 1))
    if serving:
        service.lifecycle.transition_to(State.SERVING)
    with pytest.raises(NotReady):
        service.plan(GenerationRequest(prompt="x"))
