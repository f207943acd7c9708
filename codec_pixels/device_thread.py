"""The thread that runs models.

The thread runs the calls of its clients in turn, and records when one of the running calls last made progress.
"""

import atexit
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

from codec_pixels.fair_queue import Call, FairQueue

P = ParamSpec("P")
T = TypeVar("T")

_local = threading.local()


class DeviceThread(Executor):
    """An executor with one thread, which runs all calls to diffusers pipelines.

    Clients with waiting calls are served in turn, one call at a time. The calls of each client run in the order of
    submission. Calls that may run together run as one batch (see codec_pixels.fair_queue). `initializer` is called with
    `arguments` on the thread, before the first call. The process waits for the thread when it exits, like for the
    threads of a ThreadPoolExecutor.
    """

    def __init__(self, initializer: Callable[..., object] | None = None, arguments: tuple[Any, ...] = ()) -> None:
        self._progress_at: float | None = None
        """Time at which one of the running calls last made progress, in seconds of the monotonic clock.

        Between calls, this is None.
        """
        self._queue = FairQueue()
        self._thread = threading.Thread(target=self._run_all, name="device", daemon=True)
        self._thread.start()
        atexit.register(self.shutdown)
        if initializer is not None:
            self.submit(initializer, *arguments).result()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedule a call of `fn` on behalf of a client without a name. See concurrent.futures.Executor."""
        return self.submit_for("", partial(fn, *args, **kwargs))

    def submit_for(self, client: str, function: Callable[[], T]) -> Future[T]:
        """Schedule `function` on behalf of the client with the name `client`; return the future for the result."""
        return self.submit_call(client, Call(lambda _items: function()))

    def submit_call(self, client: str, call: Call) -> Future[Any]:
        """Schedule `call`, which may run in a batch, on behalf of `client`; return the future of the call.

        Raises RuntimeError after a call of `shutdown`.
        """
        self._queue.add(client, call)
        return call.future

    def cancel_call(self, client: str, call: Call) -> None:
        """Cancel `call` of `client` unless the call has started.

        A cancelled call and the `item` of this call are no longer kept in memory.
        """
        if call.future.cancel():
            self._queue.discard(client, call)

    def has_waiting_calls(self) -> bool:
        """Return whether calls wait for the thread. This method can be called on any thread."""
        return not self._queue.is_empty()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop the thread after the waiting calls. See concurrent.futures.Executor."""
        self._queue.close()
        if cancel_futures:
            for call in self._queue.clear():
                call.future.cancel()
        if wait:
            self._thread.join()
            atexit.unregister(self.shutdown)

    def seconds_without_progress(self) -> float:
        """Return the seconds since one of the running calls last made progress; 0 if no call is running.

        This method can be called on any thread.
        """
        progress_at = self._progress_at
        return 0.0 if progress_at is None else time.monotonic() - progress_at

    def _run_all(self) -> None:
        """Run all calls in batches, until the queue is closed."""
        _local.thread = self
        while calls := self._queue.take():
            self._run(calls)
            calls.clear()  # frees the items while the thread waits for more calls

    def _run(self, calls: list[Call]) -> None:
        self._progress_at = time.monotonic()
        try:
            result = calls[0].run([call.item for call in calls])
        except BaseException as error:
            self._progress_at = None
            for call in calls:
                if not call.future.done():
                    call.future.set_exception(error)
            del call, calls  # break the reference cycle between the exception and this frame
        else:
            self._progress_at = None
            for call in calls:
                if not call.future.done():
                    call.future.set_result(result)


def report_progress() -> None:
    """Record that the running call of a device thread has made progress. Do nothing on other threads."""
    thread: DeviceThread | None = getattr(_local, "thread", None)
    if thread is not None:
        thread._progress_at = time.monotonic()
