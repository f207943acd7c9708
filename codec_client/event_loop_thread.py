"""An event loop that runs coroutines for blocking callers in a background thread."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")
CANCEL_TIMEOUT_S = 5.0
"""Maximum time to wait for a cancelled coroutine to finish, in seconds."""


class EventLoopThread:
    """An event loop that runs in its own daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="codec-client", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Run `coroutine` on the event loop, and return the result of `coroutine`.

        If the calling thread is interrupted (Ctrl-C), the coroutine is cancelled. After cancelling the coroutine, this
        method waits at most CANCEL_TIMEOUT_S seconds until the coroutine has finished.
        """
        finished = threading.Event()
        future = asyncio.run_coroutine_threadsafe(_run_and_signal(coroutine, finished), self._loop)
        try:
            return future.result()
        except BaseException:
            if future.cancel():
                finished.wait(CANCEL_TIMEOUT_S)
            raise

    def stop(self) -> None:
        """Stop and close the event loop, and join the thread of the event loop.

        The calling thread may run another event loop.
        """
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run_loop(self) -> None:
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


async def _run_and_signal(coroutine: Coroutine[Any, Any, ResultT], finished: threading.Event) -> ResultT:
    try:
        return await coroutine
    except StopAsyncIteration as error:  # a future cannot hold this exception
        raise EndOfStream from error
    finally:
        finished.set()


class EndOfStream(Exception):
    """Raised when an async stream has no more items."""
