"""Fairness between clients of a `serve` process on loopback, and the cost of refusing requests.

    python -m bench.fairness

A client runs one or more loops; each loop sends one request after the other. First, a polite client with 2 loops
competes with a greedy client with 40 loops, which ignores Retry-After. Both have API keys. Then a client that honours
Retry-After competes with 16 greedy loops on a server with 4 jobs.

The goodput is the number of completed generations per second, and per second of the server's CPU time. It is measured
for a greedy client that is never refused, because it has as many loops as it may have jobs, and for one with 100 more
loops, whose requests are refused.

The cost of a refusal is the CPU time of a server process for a refused request, without the delay for early requests.
It is compared with the CPU time for a health check.
"""

import asyncio
import hashlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import aiohttp
import grpc.aio
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.attacks import Server, running_server
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceStub
from core import refusals
from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import IMAGES, LATENTS
from tests.support.serving import run_servers

BODY = {"prompt": "x", "stream_format": "msgpack", "steps": 2, "size": "64x64"}
SECONDS = 8.0
WARM_UP_S = 1.0
REFUSED_REQUESTS = 2000
FILES = 4096
JOBS_PER_CLIENT = 28
"""The default of CODEC_MAX_JOBS_PER_CLIENT."""


@dataclass(slots=True)
class Client:
    """Results of one client: latencies of finished generations in seconds, and the number of refusals."""

    name: str
    loops: int
    honours_retry_after: bool = False
    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    served: int = 0
    """Number of finished generations, including the warm-up."""

    @property
    def per_second(self) -> float:
        """Finished generations per second."""
        return len(self.latencies) / SECONDS

    def percentile_ms(self, share: float) -> float:
        """Return a percentile of the latencies in milliseconds."""
        return float(np.percentile(self.latencies, share)) * 1000


async def _loop(client: Client, session: aiohttp.ClientSession, counts_from: float, end: float) -> None:
    while time.monotonic() < end:
        started = time.monotonic()
        async with session.post("/v1/images/generations", json=BODY) as response:
            await response.read()
        finished = time.monotonic()
        client.served += response.status == 200
        if response.status == 200 and counts_from <= finished < end:
            client.latencies.append(finished - started)
        elif response.status == 429:
            client.refused += counts_from <= finished < end
            if client.honours_retry_after:
                await asyncio.sleep(int(response.headers["Retry-After"]))


async def _run(url: str, clients: list[Client]) -> list[Client]:
    counts_from = time.monotonic() + WARM_UP_S
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(_run_client(url, client, counts_from))
    return clients


async def _run_client(url: str, client: Client, counts_from: float) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Authorization": f"Bearer key-of-{client.name}"}
    async with aiohttp.ClientSession(url, connector=connector, headers=headers) as session:
        loops = [_loop(client, session, counts_from, counts_from + SECONDS) for _ in range(client.loops)]
        await asyncio.gather(*loops)


def run_clients(url: str, clients: list[Client]) -> list[Client]:
    """Run `clients` for SECONDS in this process and return them with their results."""
    return asyncio.run(_run(url, clients))


def compete(server: Server, *clients: Client) -> list[Client]:
    """Run `clients` in another process and return them with their results."""
    with ProcessPoolExecutor(1) as process:
        return process.submit(run_clients, f"http://127.0.0.1:{server.http_port}", list(clients)).result()


def measure_shares(keys: Path) -> None:
    """Print a polite client's share of the generations and its latency, and the goodput with and without refusals."""
    with running_server(Path.cwd(), FILES, "--api-keys-file", str(keys)) as server:
        (alone,) = compete(server, Client("polite", 2))
        polite, greedy = compete(server, Client("polite", 2), Client("greedy", 40))
        total = polite.per_second + greedy.per_second
        print(f"polite client alone: {alone.per_second:.1f}/s, p99 {alone.percentile_ms(99):.0f} ms")
        print(
            f"polite client next to a greedy one: {polite.per_second / total:.0%} of {total:.1f}/s, "
            f"p99 {polite.percentile_ms(99):.0f} ms ({polite.percentile_ms(99) / alone.percentile_ms(99):.1f}x)"
        )
        cpu = [server.cpu_s()]
        (calm,) = compete(server, Client("greedy", JOBS_PER_CLIENT))
        cpu.append(server.cpu_s())
        (storm,) = compete(server, Client("greedy", JOBS_PER_CLIENT + 100))
        cpu.append(server.cpu_s())
        cost = [(cpu[1] - cpu[0]) / calm.served, (cpu[2] - cpu[1]) / storm.served]
        print(
            f"goodput: {calm.per_second:.1f}/s, {cost[0] * 1000:.1f} ms of CPU time each; with "
            f"{storm.refused / SECONDS:.0f} refusals/s {storm.per_second:.1f}/s, {cost[1] * 1000:.1f} ms each "
            f"({cost[0] / cost[1]:.0%} of the goodput by CPU time)"
        )
    with running_server(Path.cwd(), FILES, "--api-keys-file", str(keys), "--max-jobs", "4") as server:
        patient, _ = compete(server, Client("polite", 1, honours_retry_after=True), Client("greedy", 16))
        print(
            f"honours Retry-After, 4 jobs, 16 greedy loops: {len(patient.latencies)} served, {patient.refused} refused"
        )


@asynccontextmanager
async def _full_server() -> AsyncIterator[tuple[int, str]]:
    """Run servers whose only job slot is in use. Yield the HTTP port and the gRPC address."""
    async with run_servers(FakeEngine(), max_jobs=1) as servers:
        held = await servers.http.post(IMAGES, json=LATENTS)
        yield servers.http_port, servers.grpc_address
        held.close()


async def _http_requests(port: int, method: str, path: str) -> None:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        for _ in range(REFUSED_REQUESTS):
            async with session.request(method, path, json=LATENTS if method == "POST" else None) as response:
                await response.read()


async def _grpc_requests(address: str, *, health: bool) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        for _ in range(REFUSED_REQUESTS):
            if health:
                await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
                continue
            try:
                await LatentServiceStub(channel).Generate(pb.GenerateRequest(prompt="x")).read()
            except grpc.aio.AioRpcError:
                continue


def send_requests(port: int, address: str, kind: str) -> None:
    """Send REFUSED_REQUESTS requests of one kind."""
    asyncio.run(
        {
            "HTTP health check": lambda: _http_requests(port, "GET", "/livez"),
            "HTTP refusal": lambda: _http_requests(port, "POST", IMAGES),
            "gRPC health check": lambda: _grpc_requests(address, health=True),
            "gRPC refusal": lambda: _grpc_requests(address, health=False),
        }[kind]()
    )


async def measure_refusals() -> None:
    """Print the CPU time of refusals and of health checks."""
    refusals.EARLY_DELAY_S = 0.0
    async with _full_server() as (port, address):
        with ProcessPoolExecutor(1, get_context("spawn")) as process:  # grpc does not survive a fork
            loop = asyncio.get_running_loop()
            for kind in ("HTTP health check", "HTTP refusal", "gRPC health check", "gRPC refusal"):
                for _ in range(2):  # the first one warms up
                    started = time.process_time()
                    await loop.run_in_executor(process, send_requests, port, address, kind)
                    seconds = time.process_time() - started
                print(f"{kind}: {seconds / REFUSED_REQUESTS * 1e6:.0f} µs of CPU time")


def main() -> int:
    """Run the measurements and return the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        digests = {name: hashlib.sha256(f"key-of-{name}".encode()).hexdigest() for name in ("polite", "greedy")}
        keys.write_text("".join(f"{name} sha256:{digest}\n" for name, digest in digests.items()))
        measure_shares(keys)
    asyncio.run(measure_refusals())
    return 0


if __name__ == "__main__":
    sys.exit(main())
