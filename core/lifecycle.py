"""Where the server stands in its life. Every health answer, on either protocol, is fed from here."""

from collections.abc import Callable
from enum import StrEnum

from codec_wire.errors import NotReady


class State(StrEnum):
    """Stages of a server's life, in order; `failed` ends it early."""

    LOADING = "loading"
    WARMING = "warming"
    SERVING = "serving"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


_NEXT: dict[State, frozenset[State]] = {
    State.LOADING: frozenset({State.WARMING, State.SERVING, State.DRAINING, State.FAILED}),
    State.WARMING: frozenset({State.SERVING, State.DRAINING, State.FAILED}),
    # A gateway goes back to loading while it has lost its upstream.
    State.SERVING: frozenset({State.LOADING, State.DRAINING, State.FAILED}),
    State.DRAINING: frozenset({State.STOPPED}),
    State.STOPPED: frozenset(),
    State.FAILED: frozenset({State.DRAINING}),
}

RETRY_AFTER_S = 5
"""What a client is told to wait for when the server cannot know better, in seconds."""


class Lifecycle:
    """The state and whoever wants to know of its changes. Used from the event loop's thread alone."""

    def __init__(self) -> None:
        self._state = State.LOADING
        self._listeners: list[Callable[[State], None]] = []

    @property
    def state(self) -> State:
        """Where the server stands."""
        return self._state

    def subscribe(self, listener: Callable[[State], None]) -> None:
        """Call `listener` now and at every change."""
        self._listeners.append(listener)
        listener(self._state)

    def transition_to(self, state: State) -> None:
        """Go on to `state`; staying is no change. Raises ValueError on a way that life does not take."""
        if state is self._state:
            return
        if state not in _NEXT[self._state]:
            raise ValueError(f"a server does not go from {self._state} to {state}")
        self._state = state
        for listener in self._listeners:
            listener(state)

    def require_serving(self) -> None:
        """Raise NotReady unless requests are taken."""
        if self._state is not State.SERVING:
            raise NotReady(f"the server is {self._state}", RETRY_AFTER_S)
