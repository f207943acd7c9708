"""The steps of a generation that use classifier-free guidance in fast mode."""

from dataclasses import dataclass

PATTERN = r"^0-(0?\.\d+|1)(/0?\.\d+-(0?\.\d+|1))*$"
"""Text of intervals, as shares of the steps: the first interval begins with the first step."""
ALL_STEPS = "0-1"


@dataclass(frozen=True, slots=True)
class GuidanceInterval:
    """Intervals (begin, end) of steps, as shares of all steps. A step is in an interval if begin <= step < end."""

    intervals: tuple[tuple[float, float], ...]

    @classmethod
    def parse(cls, text: str) -> "GuidanceInterval":
        """Return the intervals in `text`, which matches PATTERN, e.g. "0-0.5/0.8-1"."""
        pairs = (interval.split("-") for interval in text.split("/"))
        return cls(tuple((float(begin), float(end)) for begin, end in pairs))

    def is_guided(self, step: int, total: int) -> bool:
        """Return whether step `step`, counted from 0, of `total` steps uses guidance. The first step always does."""
        return step == 0 or any(round(begin * total) <= step < round(end * total) for begin, end in self.intervals)
