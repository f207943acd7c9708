"""The thread that runs models.

The thread runs the calls of its clients in turn, and records when the running call last made progress.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_local = threading.local()


@dataclass(frozen=True, slots=True)
class _Call:
    """A call that waits for the thread, and the future for its result."""

    function: Callable[[], Any]
    future: Future[Any]


class DeviceThread(ThreadPoolExecutor):
    """An executor with one thread, which runs all calls of the pipelines.

    Clients with waiting calls are served in turn, one call each; the calls of one client run in the order of
    submission. `initializer` is called with `arguments` on the thread, before the first call.
    """

    def __init__(self, initializer: Callable[..., object] | None = None, arguments: tuple[Any, ...] = ()) -> None:
        super().__init__(1, "device", initializer, arguments)
        self._progress_at: float | None = None
        """When the current call last made progress, in seconds of the monotonic clock; None between two calls."""
        self._waiting: dict[str, deque[_Call]] = {}
        """The waiting calls by client, in the order of the clients' turns.

        Clients without waiting calls are left out.
        """
        self._waiting_lock = threading.Lock()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedule a call that belongs to no client. See concurrent.futures.Executor."""
        return self.submit_for("", partial(fn, *args, **kwargs))

    def submit_for(self, client: str, function: Callable[[], T]) -> Future[T]:
        """Schedule `function` on behalf of the client with the name `client`; return the future for the result."""
        future: Future[T] = Future()
        with self._waiting_lock:
            self._waiting.setdefault(client, deque()).append(_Call(function, future))
        super().submit(self._run_next)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop the thread. See concurrent.futures.Executor."""
        if cancel_futures:
            with self._waiting_lock:
                waiting = [call for calls in self._waiting.values() for call in calls]
                self._waiting.clear()
            for call in waiting:
                call.future.cancel()
        super().shutdown(wait, cancel_futures=cancel_futures)

    def seconds_without_progress(self) -> float:
        """Return the seconds since the running call last made progress; 0 if no call is running.

        Can be called on any thread.
        """
        progress_at = self._progress_at
        return 0.0 if progress_at is None else time.monotonic() - progress_at

    def _run_next(self) -> None:
        """Run the next call, if there is one.

        This method runs once for each submitted call, even if the call is cancelled.
        """
        call = self._next_call()
        if call is None:
            return
        _local.thread = self
        self._progress_at = time.monotonic()
        try:
            result = call.function()
        except BaseException as error:
            self._progress_at = None
            call.future.set_exception(error)
            del call  # break the reference cycle between the exception and this frame
        else:
            self._progress_at = None
            call.future.set_result(result)

    def _next_call(self) -> _Call | None:
        """Remove and return the next call that is not cancelled, or None. After it, another client has its turn."""
        with self._waiting_lock:
            while self._waiting:
                client = next(iter(self._waiting))
                calls = self._waiting.pop(client)
                while calls:
                    call = calls.popleft()
                    if call.future.set_running_or_notify_cancel():
                        if calls:
                            self._waiting[client] = calls
                        return call
        return None


def report_progress() -> None:
    """Record that the running call of a device thread has made progress. Do nothing on other threads."""
    thread: DeviceThread | None = getattr(_local, "thread", None)
    if thread is not None:
        thread._progress_at = time.monotonic()
