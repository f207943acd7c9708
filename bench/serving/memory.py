"""Section `memory`: growth of the resident memory over many requests, and the memory of idle streams."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import grpc.aio

from bench.serving.load import Protocol
from bench.serving.processes import LoadProcess, ServerProcess, run_load, run_servers
from bench.serving.report import Goal, Section, Table, megabytes
from bench.serving.request_cost import Target
from bench.serving.workload import GRPC_METHOD, HELD_PROMPT, IMAGE
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb

CLIENTS = 8
BATCH = 500
IDLE_LIMIT_S = 120
HELD = replace(IMAGE, prompt=HELD_PROMPT)
TEXT = """\
* Growth: the resident memory after 500 image requests and after 10,000, half of them over HTTP and half over gRPC.
* Idle streams: requests whose generation does not end. One is in the sampler, the others are queued. The memory is read
  once the server has accepted all of them and uses no more CPU time. Then all clients disconnect."""


def wait_until_idle(server: ServerProcess) -> None:
    """Wait until the server has used hardly any CPU time for half a second. Raises TimeoutError."""
    end = time.monotonic() + IDLE_LIMIT_S
    while time.monotonic() < end:
        before = server.cpu_s
        time.sleep(0.5)
        if server.cpu_s - before < 0.01:
            return
    raise TimeoutError("the server did not become idle")


def measure_growth(server: ServerProcess, load: LoadProcess, requests: int, batch: int = BATCH) -> list[int]:
    """Return the resident memory after every `batch` of `requests` requests, alternately over HTTP and gRPC."""
    sizes = []
    for _ in range(requests // batch):
        for protocol in ("http", "grpc"):
            load.run(Target("ours", protocol, server).command("image", CLIENTS, batch // 2))
        sizes.append(server.memory())
    return sizes


async def hold_streams(server: ServerProcess, protocol: Protocol, count: int) -> tuple[int, int]:
    """Open `count` streams that stay idle, then disconnect.

    Return the resident memory with the open streams, and after they are closed.
    """
    port = server.ports[protocol]
    if protocol == "http":
        body = HELD.json_body()
        fields = f"Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        head = f"POST {HELD.path} HTTP/1.1\r\n{fields}\r\n\r\n".encode()
        writers = []
        for _ in range(count):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head + body)
            writers.append(writer)
        await asyncio.to_thread(wait_until_idle, server)
        held = server.memory()
        for writer in writers:
            writer.close()
    else:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            method: Any = channel.unary_stream(GRPC_METHOD, request_serializer=pb.GenerateRequest.SerializeToString)
            calls = [method(HELD.grpc_request()) for _ in range(count)]
            await asyncio.to_thread(wait_until_idle, server)
            held = server.memory()
            for call in calls:
                call.cancel()
    await asyncio.to_thread(wait_until_idle, server)
    return held, server.memory()


def measure(*, requests: int = 10_000, streams: int = 1000) -> Section:
    """Run the server and return the section."""
    rows, goals = [], []
    with run_servers([("bench.serving.constant_server",)]) as (server,), run_load() as load:
        sizes = measure_growth(server, load, requests)
        growth = (sizes[-1] / sizes[0] - 1) * 100
        goals.append(Goal(f"memory after {requests} requests to that after {BATCH}", growth, 2, "%"))
        growth_table = Table(
            ("requests", "resident memory, MB"),
            [(str((index + 1) * BATCH), megabytes(size)) for index, size in enumerate(sizes) if index in _shown(sizes)],
        )
        for protocol in ("http", "grpc"):
            idle = server.memory()
            held, after = asyncio.run(hold_streams(server, protocol, streams))
            jobs = str(server.count_jobs())
            rows.append(
                (
                    protocol,
                    str(streams),
                    f"{(held - idle) / streams / 1000:.1f}",
                    megabytes(held),
                    megabytes(after),
                    jobs,
                )
            )
    heading = (
        "protocol",
        "idle streams",
        "KB per stream",
        "memory with them, MB",
        "after disconnecting, MB",
        "jobs left",
    )
    return Section("memory", "Memory", TEXT, [growth_table, Table(heading, rows)], goals)


def _shown(sizes: list[int]) -> set[int]:
    """Return the indices of the first size, the last one, and three between them."""
    return {0, *(round(part * (len(sizes) - 1) / 4) for part in range(1, 5))}
