"""Calls of Ray Serve replicas: cancellation, errors, and one more attempt if a replica is lost."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException

from codec_ray.messages import JobRequest, JobResult, Part
from codec_wire.errors import INTERNAL_TEXT, CodecError, NotReady
from codec_wire.events import Started, Step
from codec_wire.first_line import first_line
from core.engine import Job
from core.lifecycle import RETRY_AFTER_S

log = logging.getLogger(__name__)

ItemT = TypeVar("ItemT")

MAX_ATTEMPTS = 2
"""Maximum number of replicas on which the same job is tried.

The maximum is small, because the job itself may crash a replica.
"""
_LOST = "the replica that ran this request was lost"

Method = Callable[..., Any]
"""A method of a deployment handle with stream=True. The last argument of the method is a JobRequest."""


async def call_replica(method: Method, arguments: tuple[Any, ...], job: Job, version: str) -> AsyncGenerator[Any, None]:
    """Call `method` on a replica with the given `version`, and yield the items that the method returns.

    When the iterator ends or is closed, `job` is cancelled. If the replica is lost or not ready, the job runs again on
    another replica. Once an item other than the events Started and Step has been yielded, the job does not run again.
    Every run of a job has the same events Started and Step, and each of these events is yielded only once.

    Raises the CodecError that the replica reports. Raises NotReady if the job cannot run again. Raises `job.reason` if
    the job was cancelled.
    """
    try:
        yielded, is_last = 0, False
        for attempt in range(1, MAX_ATTEMPTS + 1):
            is_last, seen = is_last or attempt == MAX_ATTEMPTS, 0
            try:
                async with aclosing(_parts(method, arguments, job, version)) as parts:
                    async for part in parts:
                        for item in part.items:
                            seen += 1
                            if seen > yielded:
                                is_last = is_last or not isinstance(item, Started | Step)
                                job.record.record_sampling()
                                yield item
                                yielded = seen
            except NotReady as error:
                if is_last or job.reason is not None:
                    raise
                log.warning("request %s is sent to another replica: %s", job.record.request_id, error)
            else:
                return
    finally:
        job.abandon()


async def _parts(method: Method, arguments: tuple[Any, ...], job: Job, version: str) -> AsyncGenerator[Part[Any], None]:
    """Yield the messages of one call.

    Raises the error in the result of the call. Raises NotReady if the replica is lost. Raises `job.reason` if the job
    was cancelled.
    """
    response = method(*arguments, JobRequest.of(job, version))
    ended = False

    def cancel() -> None:
        if not ended:
            response.cancel()

    job.on_cancel(cancel)
    try:
        async for part in response:
            result: JobResult | None = part.result
            ended = result is not None
            if result is not None:
                _record(job, result)
            yield part
            if result is not None:
                if result.error is not None:
                    raise result.error
                return
        raise NotReady(_LOST, RETRY_AFTER_S)
    except RayTaskError as error:
        log.exception("a replica raised an unexpected error")
        raise CodecError(INTERNAL_TEXT) from error
    except (RayError, RayServeException) as error:
        if job.reason is not None:
            raise job.reason from None
        log.warning("a replica was lost: %s", first_line(error))
        raise NotReady(_LOST, RETRY_AFTER_S) from error
    except asyncio.CancelledError:
        # Raised both if this task is cancelled and if the call is, by another thread or by Ray.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise job.reason or NotReady(_LOST, RETRY_AFTER_S) from None
    finally:
        cancel()


def _record(job: Job, result: JobResult) -> None:
    """Add the measurements of the replica to the request record."""
    job.record.steps += result.steps
    job.record.sampling_s += result.sampling_s
    job.record.batch_size = result.batch_size
    job.record.encode_s += result.encode_s
