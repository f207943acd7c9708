"""What Envoy adds to a request: `python -m bench.envoy_cost`.

The image request of bench.serving, directly and through Envoy with deploy/envoy/envoy.yaml and one thread, over both
protocols. The CPU time is that of Envoy's process alone. Prints a table in Markdown.
"""

import asyncio
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from bench.serving.load import LoadCommand, Protocol
from bench.serving.processes import LoadProcess, run_load, run_servers
from bench.serving.report import Table, microseconds, milliseconds
from tests.support.envoy import Envoy, configuration, run_envoy
from tests.support.processes import Addresses

ROUNDS, REQUESTS = 5, 128
CLIENTS = (1, 32)
PROTOCOLS: tuple[Protocol, ...] = ("http", "grpc")


async def measure(envoy: Envoy, direct: dict[str, int], load: LoadProcess) -> list[tuple[str, ...]]:
    """Return the rows of the table. `direct` are the ports of the server by protocol."""
    through = {"http": int(envoy.http.rpartition(":")[2]), "grpc": int(envoy.grpc.rpartition(":")[2])}
    cpu_s: dict[tuple[str, int], list[float]] = defaultdict(list)
    latencies: dict[tuple[str, int, bool], list[float]] = defaultdict(list)
    for number in range(-1, ROUNDS):
        for protocol in PROTOCOLS:
            for clients in CLIENTS:
                for ports in (direct, through):
                    before = envoy.cpu_s
                    command = LoadCommand(protocol, ports[protocol], "image", clients, REQUESTS)
                    found = await asyncio.to_thread(load.run, command)
                    if number < 0:
                        continue  # a warm-up
                    latencies[protocol, clients, ports is through] += found
                    if ports is through:
                        cpu_s[protocol, clients].append((envoy.cpu_s - before) / REQUESTS)
    rows = []
    for (name, count), costs in cpu_s.items():
        label = f"Envoy, {'HTTP' if name == 'http' else 'gRPC'}"
        medians = (statistics.median(latencies[name, count, proxied]) for proxied in (False, True))
        cells = (microseconds(statistics.median(costs)), *map(milliseconds, medians))
        rows.append((label, str(count), *cells))
    return rows


async def run(server: dict[str, int], load: LoadProcess) -> list[tuple[str, ...]]:
    """Start Envoy in front of a server with these ports and return the rows of the table."""
    addresses = Addresses(f"http://127.0.0.1:{server['http']}", f"127.0.0.1:{server['grpc']}")
    with tempfile.TemporaryDirectory() as folder:
        async with run_envoy(configuration([addresses]), Path(folder)) as envoy:
            return await measure(envoy, server, load)


def main() -> None:
    """Run the measurement and print the table."""
    started = time.perf_counter()
    with run_servers([("bench.serving.constant_server",)]) as (server,), run_load() as load:
        rows = asyncio.run(run(server.ports, load))
    heading = ("", "clients", "CPU, µs", "p50 without Envoy, ms", "p50 with Envoy, ms")
    print(Table(heading, rows).markdown())
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
