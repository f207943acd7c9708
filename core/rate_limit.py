"""A limit on the rate of log messages. Without the limit, clients could cause thousands of messages a second."""

import time

INTERVAL_S = 1.0


class RateLimit:
    """A limit that allows at most `count` events a second, and counts the events that are not allowed."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._end = 0.0
        self._allowed = 0
        self._left_out = 0

    def allows(self) -> bool:
        """Return whether another event is allowed now."""
        now = time.monotonic()
        if now >= self._end:
            self._end, self._allowed = now + INTERVAL_S, 0
        self._allowed += 1
        if self._allowed > self._count:
            self._left_out += 1
            return False
        return True

    def take_left_out(self) -> int:
        """Return the number of events that were not allowed since the last call of this method."""
        left_out, self._left_out = self._left_out, 0
        return left_out
