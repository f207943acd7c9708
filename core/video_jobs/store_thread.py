"""The thread on which the store of video jobs is used."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class StoreThread:
    """A thread that runs one call at a time, in the order of the calls. The thread is started by the first call."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "video-jobs")

    async def call(self, function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Run `function` on the thread, and return the result or raise the exception of `function`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: function(*arguments, **options))

    def stop(self) -> None:
        """Wait for the last call, and stop the thread."""
        self._executor.shutdown()
