"""CPU time per request and latencies, of our server and its peers in interleaved rounds."""

import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.serving.load import LoadCommand, Protocol
from bench.serving.processes import LoadProcess, ServerProcess


@dataclass(frozen=True, slots=True)
class Target:
    """A server under one protocol. `peers` are the names of the targets that it is compared with.

    `copied` is passed to LoadCommand.
    """

    name: str
    protocol: Protocol
    server: ServerProcess
    peers: tuple[str, ...] = ()
    copied: bool = False

    def command(self, workload: str, clients: int, requests: int) -> LoadCommand:
        """Return the command that sends requests to this target."""
        return LoadCommand(
            self.protocol, self.server.ports[self.protocol], workload, clients, requests, copied=self.copied
        )


@dataclass(slots=True)
class Cost:
    """Cost of one target for one number of clients: seconds per request in each round, and all latencies."""

    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)

    def percentile(self, percent: int) -> float:
        """Return a percentile of the latencies in seconds."""
        return statistics.quantiles(self.latencies_s, n=100, method="inclusive")[percent - 1]


Costs = dict[tuple[str, int], Cost]
"""Costs by the name of the target and the number of clients."""


def measure_costs(
    targets: Sequence[Target], load: LoadProcess, *, clients: Sequence[int], rounds: int, requests: int
) -> Costs:
    """Return the costs of every target for every number of clients, after a warm-up that is not counted.

    In every round and for every number of clients, each target gets at least `requests` image requests, and at least
    two from each client.
    """
    costs: Costs = defaultdict(Cost)
    for number in range(-1, rounds):
        for count in clients:
            for target in targets:
                total = max(requests, 2 * count)
                cpu, wall = target.server.cpu_s, time.perf_counter()
                latencies = load.run(target.command("image", count, total))
                cpu, wall = target.server.cpu_s - cpu, time.perf_counter() - wall
                if number >= 0:
                    cost = costs[target.name, count]
                    cost.cpu_s.append(cpu / total)
                    cost.wall_s.append(wall / total)
                    cost.latencies_s += latencies
    return dict(costs)


def median_ratio(ours: Sequence[float], peer: Sequence[float]) -> float:
    """Return the median of the ratios of values that were measured in the same round."""
    return statistics.median(one / other for one, other in zip(ours, peer, strict=True))
