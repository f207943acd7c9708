"""Records of rejected clients, and detection of clients that send a request again before the time in Retry-After."""

from time import monotonic

MAX_CLIENTS = 1024
EARLY_DELAY_S = 0.5
"""Delay, in seconds, of the response to a request that was sent before the time in Retry-After.

The delay limits the number of requests per second from a client that retries in a loop.
"""


class Refusals:
    """Records of the time from which each rejected client may send another request.

    At most MAX_CLIENTS clients are stored.

    This class is not thread-safe: use it only from the event loop's thread.
    """

    def __init__(self) -> None:
        self._return_at: dict[str, float] = {}
        """Time from which each client may send another request, in seconds of the monotonic clock.

        The clients are in the order in which the clients were rejected.
        """

    def delay_s(self, client: str, retry_after_s: float) -> float:
        """Record that `client` must wait for `retry_after_s` seconds, and return the delay of the response in seconds.

        The delay is 0 for a client that was not rejected, or that waited until the time in Retry-After. If a rejected
        client sends another request before the time in Retry-After, the delay is EARLY_DELAY_S. A request before the
        time in Retry-After does not change the time that the client must wait.
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
