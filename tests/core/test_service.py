"""Every stream ends once, in the same way, whatever the engine does."""

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


class Scripted:
    """An engine that does what a test's generator does."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        return self._script(plan)


def frame_of(plan: StreamPlan) -> Frame:
    return Frame(LatentEncoder(plan.header).encode(np.zeros(plan.header.shape), keyframe=True, last=True))


async def events_of(script: Script, job: Job | None = None) -> tuple[list[Event], CodecError | None]:
    """Return what a service yields over that engine, and what it raises at the end."""
    service = LatentService(Lifecycle(), Admission(1, 10**12))
    service.models.replace([ModelInstance(MODEL, bundle_of(MODEL), Scripted(script), "test")])
    service.lifecycle.transition_to(State.SERVING)
    plan = service.plan(GenerationRequest(prompt="a sea", size=(64, 64), steps=1))
    found: list[Event] = []
    error: CodecError | None = None
    try:
        async with aclosing(service.generate(plan, job or Job())) as events:
            async for event in events:
                found.append(event)  # noqa: PERF401 - what came before an error counts
    except CodecError as raised:
        error = raised
    assert service.admission.jobs == 0
    return found, error


def is_error_frame(event: Event) -> bool:
    return isinstance(event, Frame) and event.frame.finish_reason is FinishReason.ERROR and event.frame.data == b""


async def test_a_failure_before_the_start_yields_nothing() -> None:
    async def script(plan: StreamPlan) -> AsyncGenerator[Event, None]:
        if plan.steps > 1:
            yield Started(plan.header)
        raise OutOfMemory("full")

    found, error = await events_of(script)
    assert found == []
    assert isinstance(error, OutOfMemory)


async def test_a_failure_after_the_start_yields_one_frame_that_says_so() -> None:
    async def script(plan: StreamPlan) -> AsyncGenerator[Event, None]:
        yield Started(plan.header)
        raise OutOfMemory("full")

    found, error = await events_of(script)
    assert len(found) == 2
    assert is_error_frame(found[1])
    assert isinstance(error, OutOfMemory)


async def test_a_failure_after_the_last_frame_changes_nothing() -> None:
    async def script(plan: StreamPlan) -> AsyncGenerator[Event, None]:
        yield Started(plan.header)
        yield frame_of(plan)
        raise NotReady("the upstream is gone", 1)

    found, error = await events_of(script)
    assert error is None
    assert [isinstance(event, Frame) for event in found] == [False, True]
    assert not is_error_frame(found[1])


async def test_a_deadline_after_the_last_frame_changes_nothing() -> None:
    async def script(plan: StreamPlan) -> AsyncGenerator[Event, None]:
        yield Started(plan.header)
        yield frame_of(plan)
        await asyncio.Event().wait()

    found, error = await events_of(script, Job(asyncio.get_running_loop().time() + 0.05))
    assert error is None
    assert len(found) == 2


async def test_an_engine_that_ends_without_a_last_frame_has_failed() -> None:
    async def script(plan: StreamPlan) -> AsyncGenerator[Event, None]:
        yield Started(plan.header)

    found, error = await events_of(script)
    assert is_error_frame(found[1])
    assert isinstance(error, TruncatedStream)


async def test_a_timeout_within_the_engine_is_not_the_clients_deadline() -> None:
    async def script(plan: StreamPlan) -> AsyncGenerator[Event, None]:
        yield Started(plan.header)
        raise TimeoutError("a socket")

    _, error = await events_of(script, Job(asyncio.get_running_loop().time() + 60))
    assert type(error) is CodecError
    assert "socket" not in str(error)


async def test_a_deadline_while_sampling_is_the_clients() -> None:
    async def script(plan: StreamPlan) -> AsyncGenerator[Event, None]:
        yield Started(plan.header)
        await asyncio.Event().wait()

    found, error = await events_of(script, Job(asyncio.get_running_loop().time() + 0.05))
    assert is_error_frame(found[1])
    assert isinstance(error, DeadlineExceeded)


async def test_errors_are_handed_on_without_what_they_passed_through() -> None:
    async def script(plan: StreamPlan) -> AsyncGenerator[Event, None]:
        yield Started(plan.header)
        try:
            raise MemoryError("inner")
        except MemoryError as inner:
            raise OutOfMemory("full") from inner

    _, error = await events_of(script)
    assert error is not None
    assert (error.__cause__, error.__context__) == (None, None)


@pytest.mark.parametrize("served", [True, False])
async def test_nothing_is_planned_unless_the_server_serves(served: bool) -> None:
    service = LatentService(Lifecycle(), Admission(1, 1))
    if served:
        service.lifecycle.transition_to(State.SERVING)
    with pytest.raises(NotReady):
        service.plan(GenerationRequest(prompt="x"))
