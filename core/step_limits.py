"""Validation of the number of sampling steps against the scheduler of a model."""

from bisect import bisect_left
from collections.abc import Callable

from codec_wire.errors import InvalidRequest, truncated_repr
from core.model import GenerationMode, ModelInfo


def require_scheduler(model: ModelInfo, scheduler: str | None) -> None:
    """Check that `model` has the scheduler with the name `scheduler`. The name None selects the model's own scheduler.

    Raises InvalidRequest if `model` does not have the scheduler. The InvalidRequest names the available schedulers.
    """
    if scheduler is None or scheduler in model.schedulers:
        return
    received = truncated_repr(scheduler)
    if not model.schedulers:
        raise InvalidRequest(
            "scheduler",
            f"is not supported by {model.name}, got {received}; remove the field, because the model has no "
            "scheduler except its own",
        )
    raise InvalidRequest("scheduler", f"must be one of {', '.join(model.schedulers)} for {model.name}, got {received}")


def require_accepted_steps(
    model: ModelInfo, mode: GenerationMode, steps: int, strength: float | None, scheduler: str | None = None
) -> None:
    """Check that `mode` of `model` can run `steps` steps with `strength` and the scheduler with the name `scheduler`.

    For a mode without strength, `strength` has the value None. If `scheduler` is None, the model's own scheduler must
    be able to run the steps.

    Raises InvalidRequest if the steps cannot be run. If the strength is so small that no step runs, the error names the
    field `strength`. For any other reason, the error names the field `steps` and the accepted numbers of steps.
    """
    accepts = model.accepts_steps if scheduler is None else model.scheduler_checks.get(scheduler)
    if accepts is None or accepts(mode, steps, strength):
        return
    if strength is not None and accepts(mode, steps, 1.0):
        raise InvalidRequest(
            "strength",
            f"must be at least 1/steps = {1 / steps:g}, got {strength:g}; with a smaller strength, no step runs",
        )
    full_strength = strength if strength is None else 1.0
    accepted = _accepted_range(lambda number: accepts(mode, number, full_strength), model.limits.max_steps)
    name = "the scheduler" if scheduler is None else f"the scheduler {scheduler}"
    raise InvalidRequest("steps", f"must be {accepted} for {name} of {model.name}, got {steps}")


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
