"""The interface between the service and whatever runs a model: events, jobs and the Engine protocol."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from codec_wire.errors import Cancelled, CodecError, DeadlineExceeded
from codec_wire.events import StreamEvent
from core.plan import StreamPlan
from core.request_record import current_record


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """The only result of a plan with `rendered` set: RGB, uint8 [num_frames, height, width, 3]."""

    frames: NDArray[np.uint8]
    generation_s: float = 0.0
    """Seconds from the start of sampling until the pixels were decoded. Set by LatentService.render."""


@dataclass(frozen=True, slots=True, eq=False)
class PixelPreview:
    """A clean estimate of a plan with `partial_images`: RGB, uint8 [num_frames, height, width, 3]."""

    frames: NDArray[np.uint8]


Event: TypeAlias = StreamEvent | Pixels | PixelPreview


class Job:
    """One queued or running generation, shared by the event loop and the thread that runs the model.

    `deadline` is in seconds of the event loop's clock; None means no deadline. Engines need not yield Steps unless
    `reports_steps` is set. A job can be cancelled from any thread and only once: later reasons are ignored.
    """

    def __init__(self, deadline: float | None = None, *, reports_steps: bool = False) -> None:
        self.deadline = deadline
        self.reports_steps = reports_steps
        self.record = current_record()
        """Record of the request, also for the thread that runs the model."""
        self._reason: CodecError | None = None
        self._work: Future[Any] | None = None
        self._listeners: list[Callable[[], object]] = []
        self._lock = threading.Lock()

    def cancel(self, reason: CodecError) -> None:
        """Ask the engine to stop within one step; it then raises `reason`."""
        with self._lock:
            if self._reason is not None:
                return
            self._reason = reason
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def on_cancel(self, listener: Callable[[], object]) -> None:
        """Call `listener` when the job is cancelled, in the cancelling thread; immediately if it already is."""
        with self._lock:
            self._listeners.append(listener)
            is_cancelled = self._reason is not None
        if is_cancelled:
            listener()

    def part(self) -> "Job":
        """Return a job for one of the generations of this job, with which it is cancelled."""
        part = _Part(self)
        self.on_cancel(lambda: part.cancel(self._reason or client_disconnected()))
        return part

    def occupy(self, work: Future[Any] | None) -> None:
        """Record that the device works on this job until `work` is done, also if the job is cancelled before.

        None means that it no longer works on the job. Only the last `work` counts: a device runs the work of a job in
        the order of submission.
        """
        self._work = work

    def when_free(self, listener: Callable[[], object]) -> None:
        """Call `listener` on the running event loop once the device no longer works on this job, now if possible."""
        work = self._work
        if work is None or work.done():
            listener()
            return
        loop = asyncio.get_running_loop()

        def notify(_work: Future[Any]) -> None:
            # The event loop is closed if the process exits meanwhile.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(listener)

        work.add_done_callback(notify)

    @property
    def reason(self) -> CodecError | None:
        """Why the job was cancelled, or None if it was not."""
        return self._reason


class _Part(Job):
    """One of the generations of `whole`. The device works on both."""

    def __init__(self, whole: Job) -> None:
        super().__init__(whole.deadline)
        self._whole = whole

    def occupy(self, work: Future[Any] | None) -> None:
        """See Job.occupy."""
        super().occupy(work)
        self._whole.occupy(work)


class Engine(Protocol):
    """Runs plans on a model.

    Implementations: a local diffusers pipeline, a remote gRPC server, the fakes of the tests.
    """

    def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        """Yield the events of `plan`: Started, the Steps if the job reports them, then every Frame, or the Pixels.

        There are Pixels instead of Frames if `plan.rendered`. Previews precede the Frames, or PixelPreviews the Pixels,
        if the plan has them; an engine may leave some out. Raises a CodecError on failure. Closing the iterator cancels
        `job`.
        """


def deadline_exceeded() -> DeadlineExceeded:
    """Return the error for a job whose deadline has passed."""
    return DeadlineExceeded("deadline exceeded")


def client_disconnected() -> Cancelled:
    """Return the error for a job whose client disconnected."""
    return Cancelled("the client disconnected")
