"""Execution of a job on a Ray Serve replica, within the memory limit of the replica and the time limit of the job."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, TypeVar

from codec_ray.messages import JobResult, Part
from codec_wire.errors import CodecError
from codec_wire.events import Frame, Started
from core.deadline import before_deadline
from core.engine import Job
from core.public_errors import to_public_error
from core.service import LatentService
from core.working_memory import NO_MEMORY, JobMemory

ItemT = TypeVar("ItemT")

PART_BYTES = 256 * 1024
"""Frames are collected until the total size of the frames in bytes reaches this number. The collected frames are then
sent as one message. Small frames are sent together, because sending a message costs more than sending a small frame."""


@dataclass(frozen=True, slots=True)
class Work(Generic[ItemT]):
    """The items that an engine yields for a job, and the resources of the job (see LatentService.active).

    `frames_follow` is true if all frames are ready as soon as the first frame is ready.
    """

    items: AsyncGenerator[ItemT, None]
    cost: int = 1
    request_bytes: int = 0
    memory: JobMemory = NO_MEMORY
    frames_follow: bool = False


async def run_work(
    service: LatentService, job: Job, work: Callable[[], Work[ItemT]]
) -> AsyncGenerator[Part[ItemT], None]:
    """Yield messages with the items of `work`. The last message has the result of `job`.

    Closing the iterator cancels the job.
    """
    error: CodecError | None = None
    waiting: list[ItemT] = []
    try:
        begun = work()
        with service.active(job, begun.cost, begun.request_bytes, begun.memory):
            async with aclosing(begun.items) as items:
                while (item := await before_deadline(anext(items, None), job)) is not None:
                    waiting.append(item)
                    if not _is_followed(item, waiting, frames_follow=begun.frames_follow):
                        yield Part(tuple(waiting))
                        waiting.clear()
    except Exception as raised:
        error = to_public_error(raised)
    record = job.record
    result = JobResult(error, record.steps, record.sampling_s, record.encode_s, record.batch_size)
    yield Part(tuple(waiting), result)


def _is_followed(item: object, waiting: list[ItemT], *, frames_follow: bool) -> bool:
    """Return whether `item` is kept and sent later, together with the next item or the result.

    An item is kept if the next item or the result will soon be ready.
    """
    if isinstance(item, Started):
        return item.is_followed
    if not isinstance(item, Frame):
        return False
    size = sum(len(one.frame.data) for one in waiting if isinstance(one, Frame))
    return item.frame.done or (frames_follow and size < PART_BYTES)
