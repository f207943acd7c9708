"""Counter of consecutive jobs that failed because of the server."""

import asyncio

from codec_wire.errors import CodecError, ModelLoadError

MAX_CONSECUTIVE_FAILURES = 3
"""Number of consecutive failures after which the device is assumed to be broken.

The number is greater than 1, because a single failure can be caused by the request instead of the device.
"""


class EngineFailures:
    """Counter of the jobs that have failed since the last job that succeeded.

    Failures that clients cause are not counted.

    This class is not thread-safe: use it only from the event loop's thread.
    """

    def __init__(self) -> None:
        self.count = 0
        self._reached = asyncio.Event()

    def record(self, error: Exception) -> None:
        """Count a job that failed with `error`, unless the client of the job caused the error."""
        if isinstance(error, CodecError) and type(error) is not CodecError and not isinstance(error, ModelLoadError):
            return
        self.count += 1
        if self.count >= MAX_CONSECUTIVE_FAILURES:
            self._reached.set()

    def reset(self) -> None:
        """Record that a job succeeded."""
        if self.count:
            self.count = 0
            self._reached.clear()

    async def wait_for_limit(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` seconds for MAX_CONSECUTIVE_FAILURES failures.

        Return whether MAX_CONSECUTIVE_FAILURES was reached.
        """
        try:
            await asyncio.wait_for(self._reached.wait(), timeout_s)
        except TimeoutError:
            return False
        return True
