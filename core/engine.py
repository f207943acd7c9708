"""The interface between the service and whatever runs a model: events, jobs and the Engine protocol."""

import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from codec_wire.errors import Cancelled, CodecError, DeadlineExceeded
from codec_wire.events import PromptTruncation, StreamEvent
from core.plan import StreamPlan
from core.request_record import current_record


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """The only result of a plan with `rendered` set: RGB, uint8 [num_frames, height, width, 3]."""

    frames: NDArray[np.uint8]
    generation_s: float = 0.0
    """Seconds from the start of sampling until the pixels were decoded. Set by LatentService.render."""
    truncations: tuple[PromptTruncation, ...] = ()
    """Ignored ends of the prompts. Set by LatentService.render."""


Event: TypeAlias = StreamEvent | Pixels


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

    @property
    def reason(self) -> CodecError | None:
        """Why the job was cancelled, or None if it was not."""
        return self._reason


class Engine(Protocol):
    """Runs plans on a model.

    Implementations: a local diffusers pipeline, a remote gRPC server, the fakes of the tests.
    """

    def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        """Yield the events of `plan`: Started, the Steps if the job reports them, then every Frame, or the Pixels.

        There are Pixels instead of Frames if `plan.rendered`. Raises a CodecError on failure. Closing the iterator
        cancels `job`.
        """


def deadline_exceeded() -> DeadlineExceeded:
    """Return the error for a job whose deadline has passed."""
    return DeadlineExceeded("deadline exceeded")


def client_disconnected() -> Cancelled:
    """Return the error for a job whose client disconnected."""
    return Cancelled("the client disconnected")
