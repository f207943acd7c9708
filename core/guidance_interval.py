"""The steps of a generation that use classifier-free guidance in fast mode."""

from dataclasses import dataclass

PATTERN = r"^0-(0?\.\d+|1)(/0?\.\d+-(0?\.\d+|1))*$"
"""Regular expression for intervals as text, for example "0-0.5/0.8-1". The first interval must begin with 0."""
ALL_STEPS = "0-1"


@dataclass(frozen=True, slots=True)
class GuidanceInterval:
    """Intervals (begin, end) of sampling steps that use guidance, as fractions of the number of steps.

    In a generation, an interval contains the steps from `begin` times the number of steps to `end` times the number of
    steps. The step at `begin` belongs to the interval, and the step at `end` does not. Both ends of an interval are
    rounded to whole steps.
    """

    intervals: tuple[tuple[float, float], ...]

    @classmethod
    def parse(cls, text: str) -> "GuidanceInterval":
        """Return the intervals in `text`, such as "0-0.5/0.8-1". The text must match PATTERN."""
        pairs = (interval.split("-") for interval in text.split("/"))
        return cls(tuple((float(begin), float(end)) for begin, end in pairs))

    def is_guided(self, step: int, total: int) -> bool:
        """Return whether step `step` of `total` steps uses guidance.

        The first step of a generation has the number 0. The first step always uses guidance.
        """
        return step == 0 or any(round(begin * total) <= step < round(end * total) for begin, end in self.intervals)
