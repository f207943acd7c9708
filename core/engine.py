"""Interface of the engines that run models.

The interface consists of the event classes, the class `Job` and the protocol class `Engine`.
"""

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
from core.working_memory import NO_MEMORY, JobMemory


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """The event with the result of a plan with `rendered` set: RGB pixels, uint8 [num_frames, height, width, 3]."""

    frames: NDArray[np.uint8]
    generation_s: float = 0.0
    """Seconds from the start of sampling until the pixels were decoded. Set by LatentService.render."""


@dataclass(frozen=True, slots=True, eq=False)
class PixelPreview:
    """The event with a preview of a plan with `partial_images`: RGB pixels, uint8 [num_frames, height, width, 3]."""

    frames: NDArray[np.uint8]


Event: TypeAlias = StreamEvent | Pixels | PixelPreview


class Job:
    """One queued or running generation, shared by the event loop and the thread that runs the model.

    `deadline` is a time of the event loop's clock in seconds, or None for a job without a deadline. If `reports_steps`
    is set, the engine must yield Step events. A job can be cancelled from any thread. If a job is cancelled several
    times, only the first reason is kept.
    """

    def __init__(self, deadline: float | None = None, *, reports_steps: bool = False) -> None:
        self.deadline = deadline
        self.reports_steps = reports_steps
        self.record = current_record()
        """RequestRecord of the request that contains this job.

        The thread that runs the model also adds values to the RequestRecord.
        """
        self.memory: JobMemory = NO_MEMORY
        """Predicted memory that the job needs. The predicted memory is set when the job is admitted."""
        self._reason: CodecError | None = None
        self._work: Future[Any] | None = None
        self._listeners: list[Callable[[], object]] = []
        self._lock = threading.Lock()

    def cancel(self, reason: CodecError) -> None:
        """Ask the engine to stop within one step and to raise `reason`."""
        with self._lock:
            if self._reason is not None:
                return
            self._reason = reason
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def abandon(self) -> None:
        """Cancel this job because the client no longer waits for the result, unless this job is already cancelled."""
        if self._reason is None:
            self.cancel(client_disconnected())

    def on_cancel(self, listener: Callable[[], object]) -> None:
        """Call `listener` when the job is cancelled, in the thread that cancels the job.

        If the job is already cancelled, `listener` is called immediately.
        """
        with self._lock:
            self._listeners.append(listener)
            is_cancelled = self._reason is not None
        if is_cancelled:
            listener()

    def part(self) -> "Job":
        """Return a new job for one of the generations in this job.

        The new job is cancelled when this job is cancelled.
        """
        part = _Part(self)
        self.on_cancel(lambda: part.cancel(self._reason or client_disconnected()))
        return part

    def occupy(self, work: Future[Any] | None) -> None:
        """Record that the device works on this job until `work` is done, even if the job is cancelled before then.

        Pass None as `work` when the device no longer works on the job. Only the `work` of the last call is relevant,
        because a device runs the work of a job in the order of submission.
        """
        self._work = work

    def when_free(self, listener: Callable[[], object]) -> None:
        """Call `listener` on the running event loop as soon as the device no longer works on this job."""
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
        """The reason why the job was cancelled, or None if the job was not cancelled."""
        return self._reason


class _Part(Job):
    """A job for one of the generations in the job `whole`.

    While the device works on this job, `whole` is recorded as a job on which the device works.
    """

    def __init__(self, whole: Job) -> None:
        super().__init__(whole.deadline, reports_steps=whole.reports_steps)
        self.memory = whole.memory
        self._whole = whole

    def occupy(self, work: Future[Any] | None) -> None:
        """See Job.occupy."""
        super().occupy(work)
        self._whole.occupy(work)


class Engine(Protocol):
    """Interface of an engine that runs plans on a model.

    The implementations are a local diffusers pipeline, a remote gRPC server, and the fakes of the tests.
    """

    def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        """Yield the event Started and the Frame events of `plan`.

        If `job.reports_steps` is set, Step events are yielded before the Frame events. If `plan.rendered` is set, one
        Pixels event replaces the Frame events. If the plan has previews and `plan.rendered` is not set, Preview events
        are yielded before the Frame events. If `plan.rendered` is set and the plan has previews, PixelPreview events
        are yielded before the Pixels event. An engine may omit some previews. Closing the iterator cancels `job`.
        Raises a CodecError if the generation fails.
        """


def deadline_exceeded() -> DeadlineExceeded:
    """Return the error for a job whose deadline has passed."""
    return DeadlineExceeded("deadline exceeded")


def client_disconnected() -> Cancelled:
    """Return the error for a job whose client disconnected."""
    return Cancelled("the client disconnected")
