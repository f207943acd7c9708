"""Running of one generation with a deadline, statistics of the events of a stream, and conversion of errors."""

import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

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


async def run_with_deadline(engine: Engine, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
    """Yield the events of `plan` until the deadline of `job`.

    The job is cancelled when the returned iterator is exhausted, raises an error or is closed. Raises DeadlineExceeded
    if the deadline of the job passes. Also raises the errors of `engine`.
    """
    deadline = Deadline(job)
    async with aclosing(engine.generate(plan, job)) as events:
        try:
            while True:
                with deadline:
                    event = await anext(events, None)
                if event is None:
                    return
                yield event
        finally:
            deadline.close()
            job.abandon()


def to_public_error(error: Exception) -> CodecError:
    """Convert `error` to a CodecError that is safe to send to clients.

    An exception that is not a CodecError is logged, and a CodecError with a generic message is returned.
    """
    if isinstance(error, CodecError):
        return without_traceback(error)
    log.error("generation failed", exc_info=error)
    return CodecError(INTERNAL_TEXT)
