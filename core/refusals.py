"""Clients that were rejected, and those of them that return before the time in Retry-After."""

from time import monotonic

MAX_CLIENTS = 1024
EARLY_DELAY_S = 0.5
"""Time after which an early request is answered: a client in a loop then costs little, whatever its number of requests
per second would be otherwise."""


class Refusals:
    """When each rejected client may return. At most MAX_CLIENTS are remembered.

    Not thread-safe: use it only from the event loop's thread.
    """

    def __init__(self) -> None:
        self._return_at: dict[str, float] = {}
        """In seconds of the monotonic clock, in the order of the rejections."""

    def delay_s(self, client: str, retry_after_s: float) -> float:
        """Record a response to `client` with the given Retry-After; return how long to delay that response.

        It is 0 unless the client was rejected before and has returned too early.
        """
        now = monotonic()
        return_at = self._return_at.get(client)
        if return_at is not None and now < return_at:
            return EARLY_DELAY_S
        self._return_at.pop(client, None)
        self._return_at[client] = now + retry_after_s
        if len(self._return_at) > MAX_CLIENTS:
            del self._return_at[next(iter(self._return_at))]
        return 0.0
