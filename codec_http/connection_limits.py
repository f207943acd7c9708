"""Limits on the number of open HTTP connections.

If a limit is reached, the connection that has been idle for the longest time is closed.
"""

import logging
import resource
from collections import Counter
from typing import Protocol

from codec_http.rate_limited_log import RateLimitedLog

RESERVED_FILES = 128
"""Number of file descriptors that are reserved for gRPC, model files and subprocesses."""

log = RateLimitedLog(logging.getLogger(__name__))


class Evictable(Protocol):
    """A connection that can be closed so that a new connection can be accepted."""

    @property
    def waits_for_client(self) -> bool:
        """Whether the server waits for data from the client because no complete request is being handled."""

    def evict(self) -> None:
        """Close the connection immediately."""


class ConnectionLimits:
    """Limits on the total number of connections, and on the number of connections from one address.

    If a limit is reached, the connection that has waited longest for data from its client is closed. Clients that open
    many connections without sending requests therefore cannot exclude other clients. A new connection is refused only
    if all connections handle requests.
    """

    def __init__(self, max_connections: int, max_per_address: int) -> None:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.max_connections = min(max_connections, max(files - RESERVED_FILES, files // 2))
        self.max_per_address = max_per_address
        self._addresses: dict[Evictable, str] = {}
        """Dictionary of the client addresses by connection.

        The connections are ordered by the time at which data was last received. The connection that has received no
        data for the longest time is first.
        """
        self._counts = Counter[str]()

    def add(self, connection: Evictable, address: str) -> None:
        """Count a new connection from `address`."""
        self._addresses[connection] = address
        self._counts[address] += 1

    def remove(self, connection: Evictable) -> None:
        """Stop counting a connection that was closed."""
        address = self._addresses.pop(connection, None)
        if address is None:
            return
        self._counts[address] -= 1
        if not self._counts[address]:
            del self._counts[address]

    def record_activity(self, connection: Evictable) -> None:
        """Record that data was received on `connection`."""
        address = self._addresses.pop(connection, None)
        if address is not None:
            self._addresses[connection] = address

    def make_room(self, address: str) -> bool:
        """Close an idle connection if a limit is reached. Return whether a connection from `address` may be opened."""
        if self._counts[address] >= self.max_per_address:
            log.warning("%s has %d HTTP connections, which is the limit per address", address, self._counts[address])
            return self._evict(address)
        if len(self._addresses) >= self.max_connections:
            log.warning("%d HTTP connections are open, which is the limit", len(self._addresses))
            return self._evict(None)
        return True

    def _evict(self, address: str | None) -> bool:
        """Close the connection that has been idle longest. Return False if no connection is idle.

        If `address` is not None, only connections from this address are considered.
        """
        for connection, found in self._addresses.items():
            if address in (None, found) and connection.waits_for_client:
                self.remove(connection)
                connection.evict()
                return True
        return False
