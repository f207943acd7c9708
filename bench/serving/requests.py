"""Section `requests`: the cost of one image request over HTTP and gRPC, and its latency."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from bench.serving.plot import plot_costs
from bench.serving.processes import ServerProcess, run_load, run_servers
from bench.serving.report import Goal, Section, Table, clients_text, microseconds, milliseconds
from bench.serving.request_cost import Costs, Target, measure_costs, median_ratio

OURS = ("codec-diffusers HTTP", "codec-diffusers gRPC")
FASTAPI, AIOHTTP, GRPC = "FastAPI + codecai", "bare aiohttp", "bare grpc.aio"
SERVERS = (
    ("bench.serving.constant_server",),
    ("bench.serving.peers", "fastapi"),
    ("bench.serving.peers", "aiohttp"),
    ("bench.serving.peers", "grpc"),
)
ALL_CLIENTS = (1, 8, 32, 64, 256)
LATENCY_CLIENTS = (1, 32, 256)
TEXT = f"""\
An image of 512x512 pixels with `int8-adaptive`, 16 KB, msgpack over HTTP and protobuf over gRPC, without a content
coding. The sampler is replaced by a constant tensor; it reports four steps. The servers run in processes of their own
on the same cores, and so does the client, which compares every body with the expected bytes. Rounds of the servers
alternate. The CPU time is that of the server's process, from the kernel; a ratio is the median of the ratios of the
rounds. Wall times depend on what else runs on the machine.

* {FASTAPI}: FastAPI on uvicorn with `StreamingResponse`; codecai builds both messages for every request.
* {AIOHTTP}: a handler that writes the same bytes, which exist in advance, in two writes.
* {GRPC}: a method that yields the same two messages, which exist in advance."""


def targets_of(servers: Sequence[ServerProcess]) -> list[Target]:
    """Return the targets for the processes of SERVERS."""
    ours, fastapi, aiohttp, grpc = servers
    return [
        Target(OURS[0], "http", ours, (FASTAPI, AIOHTTP)),
        Target(FASTAPI, "http", fastapi),
        Target(AIOHTTP, "http", aiohttp),
        Target(OURS[1], "grpc", ours, (GRPC,)),
        Target(GRPC, "grpc", grpc),
    ]


def ratio(costs: Costs, name: str, peer: str, clients: int) -> float:
    """Return the median ratio of the CPU times of two targets."""
    return median_ratio(costs[name, clients].cpu_s, costs[peer, clients].cpu_s)


def goals_of(costs: Costs, clients: Sequence[int]) -> list[Goal]:
    """Return the goals for the measured numbers of clients."""
    goals = []
    for count in sorted({1, 32} & set(clients)):
        goals.append(Goal(f"HTTP, {clients_text(count)}: CPU to {FASTAPI}", ratio(costs, OURS[0], FASTAPI, count), 0.4))
        goals.append(Goal(f"gRPC, {clients_text(count)}: CPU to {GRPC}", ratio(costs, OURS[1], GRPC, count), 2))
    most = max(clients)
    for name in OURS if most > 32 else ():
        growth = median_ratio(costs[name, most].cpu_s, costs[name, 1].cpu_s)
        goals.append(Goal(f"{name}: CPU with {most} clients to that with 1", growth, 1.1))
    return goals


def cost_table(targets: Sequence[Target], costs: Costs) -> Table:
    """Return the costs and latencies of every target."""
    rows = []
    for clients in sorted({clients for _, clients in costs} & set(LATENCY_CLIENTS)):
        for target in targets:
            cost = costs[target.name, clients]
            ratios = (f"{ratio(costs, target.name, peer, clients):.2f} x {peer}" for peer in target.peers)
            rows.append(
                (
                    target.name,
                    str(clients),
                    microseconds(statistics.median(cost.cpu_s)),
                    ", ".join(ratios),
                    microseconds(statistics.median(cost.wall_s)),
                    milliseconds(cost.percentile(50)),
                    milliseconds(cost.percentile(99)),
                )
            )
    return Table(
        ("server", "clients", "CPU, µs", "CPU to the peers", "wall, µs per request", "p50, ms", "p99, ms"), rows
    )


def growth_table(targets: Sequence[Target], costs: Costs, clients: Sequence[int]) -> Table:
    """Return the CPU time per request of every target at every number of clients."""
    rows = [
        (target.name, *(microseconds(statistics.median(costs[target.name, count].cpu_s)) for count in clients))
        for target in targets
    ]
    return Table(("CPU per request, µs", *map(clients_text, clients)), rows)


def measure(
    *, clients: Sequence[int] = ALL_CLIENTS, rounds: int = 9, requests: int = 128, plot: Path | None = None
) -> Section:
    """Run the servers and return the section. Writes the plot to `plot`, which needs 1 and 32 clients."""
    with run_servers(SERVERS) as servers, run_load() as load:
        targets = targets_of(servers)
        costs = measure_costs(targets, load, clients=clients, rounds=rounds, requests=requests)
    tables = [cost_table(targets, costs)]
    if len(clients) > 2:
        tables.append(growth_table(targets, costs, clients))
    if plot is not None:
        plot_costs([target.name for target in targets], costs, clients, plot)
    return Section("requests", "An image request", TEXT, tables, goals_of(costs, clients))


def measure_quickly() -> Section:
    """Return the section for 1 and 32 clients, from few rounds."""
    return measure(clients=(1, 32), rounds=5, requests=64)
