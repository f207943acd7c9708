"""Lifecycle transitions, and the states in which requests are accepted."""

import pytest

from codec_wire.errors import NotReady
from core.lifecycle import Lifecycle, State


def test_listener_receives_the_current_state_and_every_change() -> None:
    received: list[State] = []
    lifecycle = Lifecycle()
    lifecycle.subscribe(received.append)
    order = [
        State.WARMING,
        State.SERVING,
        State.RECOVERING,
        State.SERVING,
        State.DRAINING,
        State.STOPPED,
    ]
    for state in order:
        lifecycle.transition_to(state)
        lifecycle.transition_to(state)
    assert received == [State.LOADING, *order]


@pytest.mark.parametrize(
    ("before", "state"),
    [
        ([], State.STOPPED),
        ([State.SERVING], State.WARMING),
        ([State.DRAINING], State.SERVING),
        ([State.DRAINING, State.STOPPED], State.LOADING),
        ([State.FAILED], State.SERVING),
    ],
)
def test_transition_that_is_not_allowed_raises(before: list[State], state: State) -> None:
    lifecycle = Lifecycle()
    for earlier in before:
        lifecycle.transition_to(earlier)
    with pytest.raises(ValueError, match=f"to {state} is not allowed"):
        lifecycle.transition_to(state)


@pytest.mark.parametrize("state", State)
def test_requests_are_accepted_only_while_serving(state: State) -> None:
    lifecycle = Lifecycle()
    if state is State.STOPPED:
        lifecycle.transition_to(State.DRAINING)
    if state is State.RECOVERING:
        lifecycle.transition_to(State.SERVING)
    lifecycle.transition_to(state)
    if state is State.SERVING:
        lifecycle.require_serving()
    else:
        with pytest.raises(NotReady, match=f"the server is {state}"):
            lifecycle.require_serving()


def test_function_before_serving_is_called_once_and_before_any_listener() -> None:
    events: list[str] = []
    lifecycle = Lifecycle(lambda: events.append(f"function in state {lifecycle.state}"))
    lifecycle.subscribe(lambda state: events.append(str(state)))
    for state in (State.WARMING, State.SERVING, State.LOADING, State.SERVING):
        lifecycle.transition_to(state)
    assert events == ["loading", "warming", "function in state warming", "serving", "loading", "serving"]
