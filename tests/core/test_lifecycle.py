"""The stages of a server's life, and what they mean for requests."""

import pytest

from codec_wire.errors import NotReady
from core.lifecycle import Lifecycle, State


def test_a_life_in_order_is_told_to_whoever_listens() -> None:
    seen: list[State] = []
    lifecycle = Lifecycle()
    lifecycle.subscribe(seen.append)
    order = [State.WARMING, State.SERVING, State.DRAINING, State.STOPPED]
    for state in order:
        lifecycle.transition_to(state)
        lifecycle.transition_to(state)
    assert seen == [State.LOADING, *order]


@pytest.mark.parametrize(
    ("way", "wrong"),
    [
        ([], State.STOPPED),
        ([State.SERVING], State.WARMING),
        ([State.DRAINING], State.SERVING),
        ([State.DRAINING, State.STOPPED], State.LOADING),
        ([State.FAILED], State.SERVING),
    ],
)
def test_other_ways_are_refused(way: list[State], wrong: State) -> None:
    lifecycle = Lifecycle()
    for state in way:
        lifecycle.transition_to(state)
    with pytest.raises(ValueError, match=f"to {wrong}"):
        lifecycle.transition_to(wrong)


@pytest.mark.parametrize("state", State)
def test_only_a_serving_server_takes_requests(state: State) -> None:
    lifecycle = Lifecycle()
    for step in {State.STOPPED: [State.DRAINING]}.get(state, []):
        lifecycle.transition_to(step)
    lifecycle.transition_to(state)
    if state is State.SERVING:
        lifecycle.require_serving()
    else:
        with pytest.raises(NotReady, match=f"the server is {state}"):
            lifecycle.require_serving()
