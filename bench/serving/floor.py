"""Section `floor`: the cost of an image request in the smallest servers with two threads."""

from bench.serving.processes import run_load, run_servers
from bench.serving.report import Section
from bench.serving.request_cost import Target, measure_costs
from bench.serving.requests import FASTAPI, GRPC, OURS, SERVERS, cost_table

HTTP_FLOOR, GRPC_FLOOR = "smallest server, HTTP", "smallest server, gRPC"
TEXT = f"""\
The request of the section above. The smallest servers (`bench/serving/floor_server.py`) encode the latents of every
request on a second thread and send the same messages with aiohttp and grpc.aio. They do nothing else: they do not
validate, plan, admit, cancel, log or count requests. Their ratios to the peers show which goals a server with an event
loop and a device thread in one CPython process can reach at all.

* {HTTP_FLOOR}: one handover to the thread and back, and one write of the header and the frame.
* {GRPC_FLOOR}: one handover to the thread and back, initial metadata and two messages."""


def measure(*, clients: tuple[int, ...] = (1, 32), rounds: int = 9, requests: int = 128) -> Section:
    """Run the servers and return the section."""
    ours_command, fastapi_command, _, grpc_command = SERVERS
    floors = [("bench.serving.floor_server", protocol) for protocol in ("http", "grpc")]
    commands: list[tuple[str, ...]] = [ours_command, fastapi_command, grpc_command, *floors]
    with run_servers(commands) as (ours, fastapi, grpc, http_floor, grpc_floor), run_load() as load:
        targets = [
            Target(OURS[0], "http", ours, (FASTAPI, HTTP_FLOOR)),
            Target(HTTP_FLOOR, "http", http_floor, (FASTAPI,)),
            Target(FASTAPI, "http", fastapi),
            Target(OURS[1], "grpc", ours, (GRPC, GRPC_FLOOR)),
            Target(GRPC_FLOOR, "grpc", grpc_floor, (GRPC,)),
            Target(GRPC, "grpc", grpc),
        ]
        costs = measure_costs(targets, load, clients=clients, rounds=rounds, requests=requests)
    return Section("floor", "The smallest server with two threads", TEXT, [cost_table(targets, costs)])
