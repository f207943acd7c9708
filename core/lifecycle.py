"""State machine of the server's lifecycle.

All HTTP and gRPC health endpoints report the state of this state machine.
"""

from collections.abc import Callable
from enum import StrEnum

from codec_wire.errors import NotReady


class State(StrEnum):
    """States of a server, in the usual order of the states. FAILED can follow any state before DRAINING.

    If the device hangs or fails, the state changes from SERVING to RECOVERING. When the device works again, the state
    changes back to SERVING.
    """

    LOADING = "loading"
    WARMING = "warming"
    SERVING = "serving"
    RECOVERING = "recovering"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


_NEXT: dict[State, frozenset[State]] = {
    State.LOADING: frozenset({State.WARMING, State.SERVING, State.DRAINING, State.FAILED}),
    State.WARMING: frozenset({State.SERVING, State.DRAINING, State.FAILED}),
    # A gateway returns to LOADING while its upstream server is unreachable.
    State.SERVING: frozenset({State.LOADING, State.RECOVERING, State.DRAINING, State.FAILED}),
    State.RECOVERING: frozenset({State.SERVING, State.DRAINING, State.FAILED}),
    State.DRAINING: frozenset({State.STOPPED}),
    State.STOPPED: frozenset(),
    State.FAILED: frozenset({State.DRAINING}),
}
"""The allowed next states of the lifecycle, as a dictionary by the current state."""

RETRY_AFTER_S = 5
"""Default time in seconds after which a client may retry, if the server has no better estimate."""


class Lifecycle:
    """The current state of a server, and the functions to call when the state changes.

    This class is not thread-safe: use it only from the event loop's thread.
    """

    def __init__(self, before_serving: Callable[[], None] | None = None) -> None:
        """`before_serving` is called once, immediately before the state becomes SERVING for the first time."""
        self._state = State.LOADING
        self._before_serving = before_serving
        self._listeners: list[Callable[[State], None]] = []
        self._is_alive: Callable[[], bool] = lambda: True

    @property
    def state(self) -> State:
        """The current state."""
        return self._state

    @property
    def is_alive(self) -> bool:
        """Whether the process can recover by itself. A process that cannot recover should be restarted."""
        return self._state is not State.FAILED and self._is_alive()

    def watch_with(self, is_alive: Callable[[], bool]) -> None:
        """Set the function that returns whether the process can recover by itself."""
        self._is_alive = is_alive

    def subscribe(self, listener: Callable[[State], None]) -> None:
        """Call `listener` with the current state now, and with the new state after every change."""
        self._listeners.append(listener)
        listener(self._state)

    def transition_to(self, state: State) -> None:
        """Change the state to `state`. Do nothing if `state` is the current state.

        Raises ValueError if the change is not allowed.
        """
        if state is self._state:
            return
        if state not in _NEXT[self._state]:
            raise ValueError(f"the transition from {self._state} to {state} is not allowed")
        if state is State.SERVING and self._before_serving is not None:
            before_serving, self._before_serving = self._before_serving, None
            before_serving()
        self._state = state
        for listener in self._listeners:
            listener(state)

    def require_serving(self) -> None:
        """Raise NotReady unless the server accepts requests."""
        if self._state is not State.SERVING:
            raise NotReady(f"the server is {self._state}", RETRY_AFTER_S)
