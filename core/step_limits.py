"""Validation of the number of sampling steps against the scheduler of a model."""

from bisect import bisect_left
from collections.abc import Callable

from codec_wire.errors import InvalidRequest
from core.model import GenerationMode, ModelInfo


def require_accepted_steps(model: ModelInfo, mode: GenerationMode, steps: int, strength: float | None) -> None:
    """Check that `mode` of `model` can run `steps` steps with `strength`.

    For a mode without strength, `strength` has the value None.

    Raises InvalidRequest if the steps cannot be run. The error names `strength` if the strength is so small that no
    step runs, otherwise `steps` and the accepted numbers of steps.
    """
    accepts = model.accepts_steps
    if accepts is None or accepts(mode, steps, strength):
        return
    if strength is not None and accepts(mode, steps, 1.0):
        raise InvalidRequest(
            "strength", f"must be at least 1/steps = {1 / steps:g}, so that at least one step runs, got {strength:g}"
        )
    full_strength = strength if strength is None else 1.0
    accepted = _accepted_range(lambda number: accepts(mode, number, full_strength), model.limits.max_steps)
    raise InvalidRequest("steps", f"must be {accepted} for the scheduler of {model.name}, got {steps}")


def _accepted_range(accepts: Callable[[int], bool], maximum: int) -> str:
    """Return text that describes the accepted numbers of steps up to `maximum`, such as "from 4 to 250".

    For every scheduler of diffusers, the accepted numbers have no gap, so bisection finds the range. Bisection tests
    only about 20 numbers. The number of tests must be small, because the scheduler computes a complete schedule for
    each tested number while the event loop waits.
    """
    powers = [1 << exponent for exponent in range(maximum.bit_length())]
    inner = next(filter(accepts, [*powers, maximum]), None)
    if inner is None:
        return "another number"
    first = 1 + bisect_left(range(1, inner), True, key=accepts)
    last = inner + bisect_left(range(inner + 1, maximum + 1), True, key=lambda number: not accepts(number))
    return f"from {first} to {last}"
