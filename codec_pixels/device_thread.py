"""The thread that runs models, and how long its current work has made no progress."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_local = threading.local()


class DeviceThread(ThreadPoolExecutor):
    """An executor with one thread, which runs all calls of the pipelines in the order of submission.

    `initializer` is called with `arguments` on that thread, before everything else.
    """

    def __init__(self, initializer: Callable[..., object] | None = None, arguments: tuple[Any, ...] = ()) -> None:
        super().__init__(1, "device", initializer, arguments)
        self._progress_at: float | None = None
        """When the current call last made progress, in seconds of the monotonic clock; None between two calls."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedule a call. See concurrent.futures.Executor."""
        return super().submit(self._run, fn, *args, **kwargs)

    def seconds_without_progress(self) -> float:
        """Return for how long the current call has made no progress; 0 if there is none. For any thread."""
        progress_at = self._progress_at
        return 0.0 if progress_at is None else time.monotonic() - progress_at

    def _run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        _local.thread = self
        self._progress_at = time.monotonic()
        try:
            return fn(*args, **kwargs)
        finally:
            self._progress_at = None


def report_progress() -> None:
    """Record that the current call of a device thread has made progress. Does nothing on other threads."""
    thread: DeviceThread | None = getattr(_local, "thread", None)
    if thread is not None:
        thread._progress_at = time.monotonic()
