"""The plot of docs/benchmarks.md."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from bench.serving.request_cost import Costs

BAR_CLIENTS = (1, 32)
COLORS = ("#0b6e99", "#c0c0c0", "#8a8a8a", "#e0812b", "#5c5c5c")


def plot_costs(names: Sequence[str], costs: Costs, clients: Sequence[int], path: Path) -> None:
    """Plot the CPU time per request of every server, and how it changes with the number of clients, to `path`."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - takes a second

    figure = Figure(figsize=(10, 3.8), dpi=110, layout="constrained")
    bars, lines = figure.subplots(1, 2)
    medians = {key: statistics.median(cost.cpu_s) * 1e6 for key, cost in costs.items()}
    height = 0.38
    for offset, (count, alpha) in enumerate(zip(BAR_CLIENTS, (1.0, 0.55), strict=True)):
        values = [medians[name, count] for name in names]
        positions = [index + (offset - 0.5) * height for index in range(len(names))]
        drawn = bars.barh(positions, values, height, color=COLORS, alpha=alpha)
        bars.bar_label(drawn, [f"{value:.0f}  ({count} client{'s' * (count > 1)})" for value in values], padding=3)
    bars.set_yticks(range(len(names)), names)
    bars.invert_yaxis()
    bars.set_xlim(right=1.35 * max(medians[name, count] for name in names for count in BAR_CLIENTS))
    bars.set_xlabel("CPU time of the server per request, µs")
    for name, color in zip(names, COLORS, strict=True):
        lines.plot(clients, [medians[name, count] for count in clients], "o-", color=color, label=name)
    lines.set_xscale("log", base=2)
    lines.set_xticks(clients, [str(count) for count in clients])
    lines.set_ylim(bottom=0)
    lines.set_xlabel("clients")
    lines.set_ylabel("CPU time per request, µs")
    lines.legend(fontsize=8)
    for axes in (bars, lines):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("An image of 512x512, int8-adaptive, 16 KB, without sampling", fontsize=11)
    figure.savefig(path)
