"""The one seam between what a generation is and what makes it."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from codec_wire.errors import Cancelled, CodecError, DeadlineExceeded
from codec_wire.events import StreamEvent
from core.plan import StreamPlan


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """What a plan to be rendered gives, once and last, in place of frames: uint8 [frames, height, width, 3], RGB."""

    frames: NDArray[np.uint8]


Event: TypeAlias = StreamEvent | Pixels


class Job:
    """One running or waiting generation, as the device thread and the event loop both see it.

    `deadline` is in the event loop's time, in seconds; None where there is none. Cancelling is final, may be done
    from any thread, and says why.
    """

    def __init__(self, deadline: float | None = None) -> None:
        self.deadline = deadline
        self._reason: CodecError | None = None
        self._listeners: list[Callable[[], object]] = []
        self._lock = threading.Lock()

    def cancel(self, reason: CodecError) -> None:
        """Ask whoever runs this job to stop within one step; the first reason stands."""
        with self._lock:
            if self._reason is not None:
                return
            self._reason = reason
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def on_cancel(self, listener: Callable[[], object]) -> None:
        """Call `listener` when the job is cancelled, in the canceller's thread; at once where it already is."""
        with self._lock:
            self._listeners.append(listener)
            cancelled = self._reason is not None
        if cancelled:
            listener()

    @property
    def reason(self) -> CodecError | None:
        """Why the job must stop, None while it may go on."""
        return self._reason


class Engine(Protocol):
    """Makes the events of a generation: Started, any number of Step, every Frame; or Pixels, where those are planned.

    Exhaustion is success. A failure is a CodecError, raised. Closing the iterator early cancels the job.
    """

    def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        """Run `plan` as `job`."""


def deadline_of(job: Job) -> asyncio.Timeout:
    """Return the timeout context of `job`'s deadline; TimeoutError leaves it when the time is up."""
    return asyncio.timeout_at(job.deadline)


def deadline_exceeded() -> DeadlineExceeded:
    """Return the error for a job whose time is up."""
    return DeadlineExceeded("the time for this request is up")


def client_disconnected() -> Cancelled:
    """Return the error for a job whose client is gone."""
    return Cancelled("the client left")
