"""The calls that wait to receive a message, in the order in which they get a turn."""

import asyncio
from collections import deque


class WaitingCalls:
    """Calls that wait for a turn. Clients take turns, so that a client with many calls does not delay other clients.

    If `prefers_new` is true, every second turn goes to the client that has begun to wait most recently and has had no
    turn since then. A client that sends its message at once then does not wait for many clients that send nothing.
    """

    def __init__(self, *, prefers_new: bool = False) -> None:
        self._prefers_new = prefers_new
        self._last_was_new = False
        """Whether the last turn went to the newest client."""
        self._calls: dict[str, deque[asyncio.Future[None]]] = {}
        """Waiting calls by client. The first client gets the next turn that does not go to the newest client."""
        self._new: dict[str, None] = {}
        """Clients that have had no turn since they began to wait, oldest first."""

    def __len__(self) -> int:
        return sum(map(len, self._calls.values()))

    def __bool__(self) -> bool:
        return bool(self._calls)

    def __contains__(self, client: str) -> bool:
        return client in self._calls

    def are_all_of(self, client: str) -> bool:
        """Return whether calls of `client` wait, and no calls of other clients."""
        return self._calls.keys() == {client}

    def add(self, client: str) -> asyncio.Future[None]:
        """Add a call of `client`. Return a future for its turn."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if client not in self._calls:
            self._calls[client] = deque()
            self._new[client] = None
        self._calls[client].append(turn)
        return turn

    def discard(self, client: str, turn: asyncio.Future[None]) -> None:
        """Remove the call of `client` that waits for `turn`, if it still waits."""
        calls = self._calls.get(client, deque())
        if turn in calls:
            calls.remove(turn)
            if not calls:
                del self._calls[client]
                self._new.pop(client, None)

    def give_turn(self) -> bool:
        """Give a turn to the next call. Return False if no call waits."""
        while self._calls:
            client = self._next_client()
            calls = self._calls.pop(client)
            turn = calls.popleft()
            if calls:
                self._calls[client] = calls  # behind the other clients
            if not turn.done():  # otherwise the call was cancelled
                turn.set_result(None)
                return True
        return False

    def _next_client(self) -> str:
        self._last_was_new = self._prefers_new and not self._last_was_new
        client = next(reversed(self._new) if self._last_was_new and self._new else iter(self._calls))
        self._new.pop(client, None)
        return client
