"""Validation of the number of sampling steps against the scheduler of a model."""

from codec_wire.errors import InvalidRequest
from core.model import GenerationMode, ModelInfo


def require_accepted_steps(model: ModelInfo, mode: GenerationMode, steps: int, strength: float | None) -> None:
    """Check that `mode` of `model` can run `steps` steps with `strength`, None if the mode has no strength.

    Raises InvalidRequest naming `steps` with the accepted numbers, or `strength` if it leaves no step to run.
    """
    accepts = model.accepts_steps
    if accepts is None or accepts(mode, steps, strength):
        return
    if strength is not None and accepts(mode, steps, 1.0):
        raise InvalidRequest(
            "strength", f"must be at least 1/steps = {1 / steps:g}, so that a step is run, got {strength:g}"
        )
    accepted = [
        number
        for number in range(1, model.limits.max_steps + 1)
        if accepts(mode, number, strength if strength is None else 1.0)
    ]
    raise InvalidRequest("steps", f"must be {_ranges(accepted)} for the scheduler of {model.name}, got {steps}")


def _ranges(numbers: list[int]) -> str:
    """Return ascending `numbers` as ranges, e.g. "1 to 40 or 50"."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return " or ".join(f"{first}" if first == last else f"{first} to {last}" for first, last in ranges)
