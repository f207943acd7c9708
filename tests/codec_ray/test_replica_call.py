"""What the server does if replicas fail, with a handle that replaces them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from codec_ray.messages import JobRequest, JobResult, Part
from codec_ray.replica_call import MAX_ATTEMPTS, call_replica
from codec_wire.errors import InvalidRequest, NotReady, OutOfMemory
from codec_wire.events import Frame, Started, Step
from codec_wire.latents import FinishReason, LatentDtype, LatentFrame, LatentStreamHeader
from core.engine import Job, client_disconnected

STARTED = Started(LatentStreamHeader("a/b", (4, 2, 2), LatentDtype.FP16, "raw"))
FRAME = Frame(LatentFrame(b"x", 0, True, True, FinishReason.OK))
OK = JobResult(None, 2, 0.5, 0.25)
Answer = Part[Any] | BaseException


class Response:
    """A response of a deployment handle: yields parts, and raises the exceptions among them."""

    def __init__(self, answers: list[Answer]) -> None:
        self._answers = answers
        self.cancelled = 0

    async def __aiter__(self) -> AsyncIterator[Any]:
        for answer in self._answers:
            if isinstance(answer, BaseException):
                raise answer
            yield answer
        if not self._answers:
            await asyncio.Event().wait()

    def cancel(self) -> None:
        self.cancelled += 1


class Replicas:
    """A method of a deployment handle; each call gets the next of `runs`."""

    def __init__(self, *runs: list[Answer]) -> None:
        self.responses = [Response(run) for run in runs]
        self.requests: list[JobRequest] = []

    def __call__(self, plan: str, request: JobRequest) -> Response:
        assert plan == "plan"
        self.requests.append(request)
        return self.responses[len(self.requests) - 1]


async def run(replicas: Replicas, job: Job | None = None) -> list[Any]:
    return [item async for item in call_replica(replicas, ("plan",), job or Job(), "1")]


def lost() -> ActorDiedError:
    return ActorDiedError()


def unavailable() -> ActorUnavailableError:
    return ActorUnavailableError("no connection", None)


@pytest.mark.parametrize("error", [lost, unavailable, lambda: NotReady("recovering", 1)])
async def test_job_runs_again_if_nothing_was_sent(error: Callable[[], BaseException]) -> None:
    replicas = Replicas([error()], [Part((STARTED, FRAME), OK)])
    assert await run(replicas) == [STARTED, FRAME]


async def test_header_and_steps_of_the_second_run_are_sent_once() -> None:
    first: list[Answer] = [Part((STARTED,)), Part((Step(1, 3),)), Part((Step(2, 3),)), lost()]
    second: list[Answer] = [Part((STARTED,)), *(Part((Step(index, 3),)) for index in (1, 2, 3)), Part((FRAME,), OK)]
    assert await run(Replicas(first, second)) == [STARTED, Step(1, 3), Step(2, 3), Step(3, 3), FRAME]


async def test_job_with_sent_frames_fails_retryably() -> None:
    replicas = Replicas([Part((STARTED, FRAME)), lost()], [Part((STARTED, FRAME), OK)])
    items = call_replica(replicas, ("plan",), Job(), "1")
    assert [await anext(items), await anext(items)] == [STARTED, FRAME]
    with pytest.raises(NotReady):
        await anext(items)
    assert len(replicas.requests) == 1


async def test_job_that_ends_every_replica_fails_retryably() -> None:
    runs: list[list[Answer]] = [[lost()] for _ in range(MAX_ATTEMPTS)]
    replicas = Replicas(*runs)
    with pytest.raises(NotReady):
        await run(replicas)
    assert len(replicas.requests) == MAX_ATTEMPTS


async def test_stream_without_a_result_is_that_of_a_lost_replica() -> None:
    with pytest.raises(NotReady):
        await run(Replicas([Part((STARTED, FRAME))]))


@pytest.mark.parametrize("error", [InvalidRequest("steps", "is wrong"), OutOfMemory("no memory")])
async def test_error_of_the_job_is_raised_and_not_repeated(error: Exception) -> None:
    replicas = Replicas([Part((), JobResult(error, 0, 0.0, 0.0))])  # type: ignore[arg-type]
    with pytest.raises(type(error)) as caught:
        await run(replicas)
    assert caught.value is error


async def test_times_are_added_to_the_record() -> None:
    job = Job()
    await run(Replicas([Part((STARTED, FRAME), OK)]), job)
    assert (job.record.steps, job.record.sampling_s, job.record.encode_s) == (2, 0.5, 0.25)


async def test_cancelled_job_cancels_the_call_once() -> None:
    replicas, job = Replicas([]), Job()
    task = asyncio.create_task(run(replicas, job))
    await asyncio.sleep(0)
    job.cancel(client_disconnected())
    assert replicas.responses[0].cancelled == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_finished_call_is_not_cancelled() -> None:
    replicas, job = Replicas([Part((STARTED, FRAME), OK)]), Job()
    await run(replicas, job)
    assert job.reason is not None
    assert replicas.responses[0].cancelled == 0


async def test_replica_gets_the_time_that_is_left_and_the_client() -> None:
    job = Job(asyncio.get_running_loop().time() + 5, reports_steps=True)
    job.record.peer = "10.0.0.1"
    replicas = Replicas([Part((STARTED, FRAME), OK)])
    await run(replicas, job)
    (request,) = replicas.requests
    assert request.timeout_s is not None
    assert 4 < request.timeout_s <= 5
    assert (request.reports_steps, request.client) == (True, "10.0.0.1")
    assert request.request_id == job.record.request_id
    again = request.to_job()
    assert (again.record.client, again.record.request_id) == ("10.0.0.1", job.record.request_id)
