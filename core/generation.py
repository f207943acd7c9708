"""Running of one generation with a deadline, statistics of the events of a stream, and conversion of errors."""

import logging
import time
from typing import Self

from codec_wire.errors import INTERNAL_TEXT, CodecError, without_traceback
from codec_wire.events import Frame, Started, StreamEvent
from core.deadline import Deadline
from core.engine import Engine, Event, Job
from core.plan import StreamPlan

log = logging.getLogger(__name__)


class StreamStats:
    """Statistics of the events that one stream has yielded so far."""

    def __init__(self) -> None:
        self.frames = 0
        self.done = False
        self.sampling_s: float | None = None
        """Seconds from the event Started to the first frame; None before the first frame."""
        self._started_at: float | None = None

    @property
    def started(self) -> bool:
        """Whether the event Started has been yielded."""
        return self._started_at is not None

    def record(self, event: StreamEvent) -> None:
        """Add the event `event` to the statistics. Call this method before the event is yielded."""
        if isinstance(event, Started):
            self._started_at = time.monotonic()
        elif isinstance(event, Frame):
            if self.frames == 0 and self._started_at is not None:
                self.sampling_s = time.monotonic() - self._started_at
            self.frames += 1
            self.done = event.frame.done


class EventsUntilDeadline:
    """The events of `plan`, as an asynchronous iterator that ends with DeadlineExceeded at the deadline of `job`.

    The iterator also raises the errors of `engine`. Close the iterator (contextlib.aclosing) to cancel the job. One
    asyncio task must create, use and close this object.
    """

    def __init__(self, engine: Engine, plan: StreamPlan, job: Job) -> None:
        self._events = engine.generate(plan, job)
        self._job = job
        self._deadline = Deadline(job)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Return the next event."""
        with self._deadline:
            return await anext(self._events)

    async def aclose(self) -> None:
        """Cancel the job, if it has not been cancelled, and let the engine stop."""
        self._deadline.close()
        self._job.abandon()
        await self._events.aclose()


def to_public_error(error: Exception) -> CodecError:
    """Convert `error` to a CodecError that is safe to send to clients.

    An exception that is not a CodecError is logged, and a CodecError with a generic message is returned.
    """
    if isinstance(error, CodecError):
        return without_traceback(error)
    log.error("generation failed", exc_info=error)
    return CodecError(INTERNAL_TEXT)
