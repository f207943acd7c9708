"""One generation while it runs: its events until its deadline, what was seen of them, and how it failed."""

import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from codec_wire.errors import INTERNAL_TEXT, CodecError, without_traceback
from codec_wire.events import Frame, Started, StreamEvent
from core.engine import Engine, Event, Job, client_disconnected, deadline_exceeded, deadline_of
from core.plan import StreamPlan

log = logging.getLogger(__name__)


class Seen:
    """What has been seen of one generation's stream."""

    def __init__(self) -> None:
        self.frames = 0
        self.done = False
        self.sampling_s: float | None = None
        self._started_at: float | None = None

    @property
    def started(self) -> bool:
        """Whether the header went out."""
        return self._started_at is not None

    def saw(self, event: StreamEvent) -> None:
        """Take note of `event`; from the start to the first frame, the device was sampling."""
        if isinstance(event, Started):
            self._started_at = time.monotonic()
        elif isinstance(event, Frame):
            if self.frames == 0 and self._started_at is not None:
                self.sampling_s = time.monotonic() - self._started_at
            self.frames += 1
            self.done = event.frame.done


async def run_with_deadline(engine: Engine, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
    """Yield the events of `plan`. Raises DeadlineExceeded once the job's time is up, and what the engine raises.

    The end of the iterator, however it comes, ends the job.
    """
    async with aclosing(engine.generate(plan, job)) as events:
        try:
            while True:
                timeout = deadline_of(job)
                try:
                    async with timeout:
                        event = await anext(events, None)
                except TimeoutError:
                    if timeout.expired():  # and not one that the engine met
                        raise deadline_exceeded() from None
                    raise
                if event is None:
                    return
                yield event
        finally:
            job.cancel(client_disconnected())


def to_public_error(error: Exception) -> CodecError:
    """Return `error` as a client may be told of it; one that nobody foresaw is the log's."""
    if isinstance(error, CodecError):
        return without_traceback(error)
    log.error("a generation failed", exc_info=error)
    return CodecError(INTERNAL_TEXT)
