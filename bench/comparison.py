"""Comparison of two functions by the CPU time of the calling thread, in alternating rounds.

CPU time does not include the time for which other processes use the core. The ratio is the median of the ratios of the
rounds, in which both functions run in the same conditions.
"""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

ROUNDS = 41
ROUND_SECONDS = 0.002
"""Minimum CPU time of each function in a round."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Median CPU time in seconds of this project (`ours`) and of the peer; `cells` describe what was measured.

    `ratio` is the speed relative to the peer: above 1 is faster. `goal` is the intended ratio.
    """

    cells: tuple[str, ...]
    ours: float
    peer: float
    ratio: float
    goal: float

    @property
    def met(self) -> bool:
        """Whether the goal is met."""
        return self.ratio >= self.goal


def compare(
    cells: tuple[str, ...], ours: Callable[[], Any], peer: Callable[[], Any], units: int, goal: float
) -> Comparison:
    """Compare two functions. A call of each does `units` units of work; the times are per unit."""
    repeats = [_repeats(ours), _repeats(peer)]
    durations: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for times, function, count in zip(durations, (ours, peer), repeats, strict=True):
            times.append(_cpu_seconds(function, count) / units)
    ratios = [other / own for own, other in zip(*durations, strict=True)]
    own, other = map(statistics.median, durations)
    return Comparison(cells, own, other, statistics.median(ratios), goal)


def print_comparisons(names: Sequence[str], results: Sequence[Comparison], *, markdown: bool) -> None:
    """Print a table, as Markdown or for a terminal, and the number of goals that are met.

    `names` are the headings of the cells.
    """
    heading = (*names, "ours, \u00b5s of CPU", "peer, \u00b5s of CPU", "ratio", "goal", "met")
    rows = [
        (
            *found.cells,
            f"{found.ours * 1e6:.1f}",
            f"{found.peer * 1e6:.1f}",
            f"{found.ratio:.1f}x",
            f"{found.goal:.1f}x",
            "yes" if found.met else "no",
        )
        for found in results
    ]
    if markdown:
        for cells in (heading, ("---",) * len(heading), *rows):
            print("| " + " | ".join(cells) + " |")
    else:
        table = Table(*heading, title=f"NumPy {np.__version__} on {platform.machine()}, one thread")
        for cells in rows:
            table.add_row(*cells)
        Console().print(table)
    print(f"\n{sum(found.met for found in results)} of {len(results)} goals are met.")


def _repeats(function: Callable[[], Any]) -> int:
    """Return how many calls take ROUND_SECONDS, after calling `function` to fill caches."""
    function()
    return max(1, round(ROUND_SECONDS / max(_cpu_seconds(function, 1), 1e-6)))


def _cpu_seconds(function: Callable[[], Any], count: int) -> float:
    """Return the mean CPU seconds per call, for `count` calls."""
    start = time.thread_time()
    for _ in range(count):
        function()
    return (time.thread_time() - start) / count
