"""Command line of the benchmark.

python -m bench.serving --quick     print the cost of an image request, in less than 40 seconds
"""

import argparse
import statistics
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench.serving.processes import ServerProcess, run_load, run_servers
from bench.serving.request_cost import Costs, Target, measure_costs, median_ratio

SERVERS = (
    ("bench.serving.constant_server",),
    ("bench.serving.peers", "fastapi"),
    ("bench.serving.peers", "aiohttp"),
    ("bench.serving.peers", "grpc"),
)


def targets_of(servers: Sequence[ServerProcess]) -> list[Target]:
    """Return the targets for the processes of SERVERS."""
    ours, fastapi, aiohttp, grpc = servers
    return [
        Target("codec HTTP", "http", ours, ours.ports["http"], ("FastAPI + codecai", "bare aiohttp")),
        Target("FastAPI + codecai", "http", fastapi, fastapi.ports["port"]),
        Target("bare aiohttp", "http", aiohttp, aiohttp.ports["port"]),
        Target("codec gRPC", "grpc", ours, ours.ports["grpc"], ("bare grpc.aio",)),
        Target("bare grpc.aio", "grpc", grpc, grpc.ports["port"]),
    ]


def report(targets: Sequence[Target], costs: Costs) -> None:
    """Print a table."""
    table = Table("server", "clients", "CPU, µs", "ratio of CPU to the peers", "wall, µs", "p50, ms", "p99, ms")
    for (name, clients), cost in sorted(costs.items(), key=lambda item: item[0][1]):
        peers = next(target.peers for target in targets if target.name == name)
        ratios = (f"{median_ratio(cost.cpu_s, costs[peer, clients].cpu_s):.2f} x {peer}" for peer in peers)
        table.add_row(
            name,
            str(clients),
            f"{statistics.median(cost.cpu_s) * 1e6:.0f}",
            ", ".join(ratios),
            f"{statistics.median(cost.wall_s) * 1e6:.0f}",
            f"{cost.percentile(50) * 1e3:.2f}",
            f"{cost.percentile(99) * 1e3:.2f}",
        )
    Console(width=max(Console().width, 130)).print(table)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description="Cost of serving.")
    parser.add_argument("--quick", action="store_true", help="1 and 32 clients only, few rounds")
    parser.parse_args()
    with run_servers(SERVERS) as servers, run_load() as load:
        targets = targets_of(servers)
        report(targets, measure_costs(targets, load, clients=(1, 32), rounds=5, requests=64))
    return 0


if __name__ == "__main__":
    sys.exit(main())
