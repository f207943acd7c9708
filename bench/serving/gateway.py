"""Section `gateway`: the cost of the HTTP gateway for a request, compared with a handler that only copies messages."""

import statistics
import time
import urllib.error
import urllib.request

from bench.serving.processes import ServerProcess, run_load, run_servers
from bench.serving.report import Goal, Section, Table, clients_text, microseconds, milliseconds
from bench.serving.request_cost import Target, measure_costs, median_ratio
from codec_wire.http import READINESS_PATH

CLIENTS = (1, 32)
OURS, PEER = "codec-diffusers gateway", "bare gateway"
READY_TIMEOUT_S = 60
TEXT = f"""\
The image request above through an HTTP gateway. Both gateways call the same gRPC server, and the CPU time is that of
the gateway's process alone.

* {PEER}: an aiohttp handler that calls the method with a grpc.aio client and writes the messages as they are received,
  without parsing them."""


def start_gateway(upstream: int) -> ServerProcess:
    """Start `codec-diffusers gateway` on a free port, in front of the gRPC server on the port `upstream`."""
    flags = ("--port", "0", "--max-jobs", "4096", "--log-level", "warning")
    return ServerProcess("codec_server", "gateway", "--upstream", f"127.0.0.1:{upstream}", *flags, ready="upstream")


def wait_until_serving(port: int) -> None:
    """Wait until an HTTP server accepts generations. Raises TimeoutError."""
    end = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{READINESS_PATH}"):
                return
        except urllib.error.URLError:
            time.sleep(0.01)
    raise TimeoutError(f"the server on port {port} is not ready after {READY_TIMEOUT_S} s")


def measure(*, rounds: int = 9, requests: int = 128) -> Section:
    """Run both gateways and return the section."""
    with run_servers([("bench.serving.constant_server",)]) as (upstream,), run_load() as load:
        port = upstream.ports["grpc"]
        gateway = start_gateway(port)
        try:
            wait_until_serving(gateway.wait_until_ready().ports["http"])
            with run_servers([("bench.serving.peers", "gateway", "image", str(port))]) as (bare,):
                targets = [Target(OURS, "http", gateway), Target(PEER, "http", bare, copied=True)]
                costs = measure_costs(targets, load, clients=CLIENTS, rounds=rounds, requests=requests)
        finally:
            gateway.stop()
    rows, goals = [], []
    for clients in CLIENTS:
        ratio = median_ratio(costs[OURS, clients].cpu_s, costs[PEER, clients].cpu_s)
        goals.append(Goal(f"{clients_text(clients)}: CPU to the {PEER}", ratio, 1.3))
        for name in (OURS, PEER):
            cost = costs[name, clients]
            cells = (microseconds(statistics.median(cost.cpu_s)), f"{ratio:.2f} x" if name == OURS else "")
            rows.append(
                (name, str(clients), *cells, milliseconds(cost.percentile(50)), milliseconds(cost.percentile(99)))
            )
    heading = ("gateway", "clients", "CPU, µs", "CPU to the peer", "p50, ms", "p99, ms")
    return Section("gateway", "The gateway", TEXT, [Table(heading, rows)], goals)
