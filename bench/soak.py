"""Load test of several minutes with random disconnects: checks response bytes, remaining jobs and constant memory.

Clients request images and videos from bench.serving.constant_server, over HTTP and gRPC. A client reads each response
completely, reads it slowly, or disconnects: at a random moment, while the job is queued or sampled, or in the middle of
the body. Every complete response must consist of the expected bytes. At the end all clients disconnect, and the server
must have no active job.

    python -m bench.soak --minutes 10             print the result
    python -m bench.soak --minutes 10 --write     also write it to docs/benchmarks.md
"""

import argparse
import asyncio
import hashlib
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import grpc.aio

from bench.serving.load import Protocol
from bench.serving.machine import describe_machine
from bench.serving.processes import ServerProcess, run_servers, stop_processes_at_sigterm
from bench.serving.report import Goal, Section, Table, megabytes, replace_section
from bench.serving.workload import GRPC_METHOD, HELD_PROMPT, IMAGE, Workload, video
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.grpc import CHANNEL_OPTIONS

CLIENTS = 16
WORKLOADS = (
    IMAGE,
    replace(IMAGE, pipeline="raw"),
    replace(IMAGE, pipeline="int4-adaptive"),
    video("raw", 5),
    video("delta+int8", 30),
)
HELD = replace(IMAGE, prompt=HELD_PROMPT)
MAX_DELAY_S = 0.1
"""Maximum time in seconds until a client disconnects, or between two reads of a slow client."""
WARM_UP = 0.2
"""Fraction of the time after which the memory must be constant."""
MAX_GROWTH = 0.02
SAMPLE_S = 0.5
DISCONNECT_S = 2
"""Time after the last disconnect until the active jobs are counted."""
DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
TEXT = f"""\
{CLIENTS} clients request images and videos of different sizes and pipelines, over HTTP and gRPC. Half of the responses
are read at full speed; the others slowly, until a random moment of the first {MAX_DELAY_S * 1000:.0f} ms, until the
first part of the body, or while the generation is held in the sampler. Every complete response is compared with the
expected bytes. The growth of the memory is that after the first fifth of the time."""


@dataclass(slots=True)
class Soak:
    """Results: numbers of responses by outcome, and the resident memory of the server in bytes over time."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    jobs_left: int = -1
    """Active jobs at the end."""

    @property
    def growth(self) -> float:
        """Relative growth of the memory after the warm-up, from the median of the first tenth to that of the last."""
        sizes = self.memory[int(len(self.memory) * WARM_UP) :]
        part = max(1, len(sizes) // 10)
        first, last = sorted(sizes[:part]), sorted(sizes[-part:])
        return last[len(last) // 2] / first[len(first) // 2] - 1

    def section(self, minutes: float) -> Section:
        """Return the result, with its goals, for a soak of `minutes`."""
        goals = [
            Goal("wrong or failed responses", len(self.wrong), 0, ""),
            Goal("jobs left after all clients have disconnected", self.jobs_left, 0, ""),
            Goal("growth of the memory", 100 * self.growth, 100 * MAX_GROWTH, "%"),
        ]
        counts = Table(("responses", "count"), [(name, str(self.outcomes[name])) for name in sorted(self.outcomes)])
        steps = range(0, len(self.memory), max(1, len(self.memory) // 6))
        sizes = [(f"{step * SAMPLE_S / 60:.1f}", megabytes(self.memory[step])) for step in steps]
        memory = Table(("minute", "resident memory, MB"), sizes)
        return Section(
            "soak", "Soak with disconnects", TEXT, [counts, memory], goals, f"bench.soak --minutes {minutes:g}"
        )


async def read_http(session: aiohttp.ClientSession, port: int, workload: Workload) -> AsyncGenerator[bytes, None]:
    """Yield the parts of the body of a response."""
    url = f"http://127.0.0.1:{port}{workload.path}"
    headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"}
    async with session.post(url, data=workload.json_body(), headers=headers) as response:
        response.raise_for_status()
        async for data in response.content.iter_any():
            yield data


async def read_grpc(channel: grpc.aio.Channel, workload: Workload) -> AsyncGenerator[bytes, None]:
    """Yield the serialized messages of a response."""
    method: Any = channel.unary_stream(GRPC_METHOD, request_serializer=pb.GenerateRequest.SerializeToString)
    call = method(workload.grpc_request())
    try:
        async for message in call:
            yield message
    finally:
        call.cancel()


class Client:
    """One client that sends random requests, one after the other."""

    def __init__(self, server: ServerProcess, rng: random.Random, soak: Soak) -> None:
        self._server = server
        self._rng = rng
        self._soak = soak

    async def run(self, until: float) -> None:
        """Send requests until the time `until`, in seconds of time.monotonic()."""
        address = f"127.0.0.1:{self._server.ports['grpc']}"
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel,
        ):
            while time.monotonic() < until:
                protocol: Protocol = self._rng.choice(("http", "grpc"))
                outcome = self._rng.choices(("complete", "slow", "timed", "partial", "held"), (50, 5, 20, 20, 5))[0]
                workload = HELD if outcome == "held" else self._rng.choice(WORKLOADS)
                if protocol == "http":
                    parts = read_http(session, self._server.ports["http"], workload)
                else:
                    parts = read_grpc(channel, workload)
                try:
                    await self._read(parts, protocol, workload, outcome)
                except (aiohttp.ClientError, grpc.RpcError) as error:
                    self._soak.wrong.append(f"{protocol}, {workload.pipeline}: {error!r}")

    async def _read(
        self, parts: AsyncGenerator[bytes, None], protocol: Protocol, workload: Workload, outcome: str
    ) -> None:
        """Read a response completely or in part, as `outcome` requires, and count it. Check complete responses."""
        delay = self._rng.uniform(0, MAX_DELAY_S)
        if outcome == "partial":
            async with aclosing(parts) as open_parts:
                async for _ in open_parts:
                    break
            self._soak.outcomes[f"{protocol}: abandoned, partial"] += 1
            return
        try:
            async with asyncio.timeout(delay if outcome in ("timed", "held") else None):
                digest = await self._digest(parts, delay if outcome == "slow" else 0)
        except TimeoutError:
            self._soak.outcomes[f"{protocol}: abandoned, {outcome}"] += 1
            return
        expected = workload.http_digest if protocol == "http" else workload.grpc_digest
        if digest != expected:
            self._soak.wrong.append(f"{protocol}, {workload.pipeline}: the bytes differ from the expected ones")
        self._soak.outcomes[f"{protocol}: complete, compared"] += 1

    @staticmethod
    async def _digest(parts: AsyncGenerator[bytes, None], delay: float = 0) -> bytes:
        """Return the SHA-256 of all parts, with a pause of `delay` seconds after each."""
        digest = hashlib.sha256()
        async with aclosing(parts) as open_parts:
            async for data in open_parts:
                digest.update(data)
                if delay:
                    await asyncio.sleep(delay)
        return digest.digest()


async def run_soak(server: ServerProcess, seconds: float, seed: int) -> Soak:
    """Run all clients for `seconds`."""
    soak, rng = Soak(), random.Random(seed)
    until = time.monotonic() + seconds
    clients = [
        asyncio.ensure_future(Client(server, random.Random(rng.random()), soak).run(until)) for _ in range(CLIENTS)
    ]
    while time.monotonic() < until:
        soak.memory.append(server.memory())
        await asyncio.sleep(SAMPLE_S)
    await asyncio.gather(*clients)
    await asyncio.sleep(DISCONNECT_S)
    soak.jobs_left = server.count_jobs()
    return soak


def main() -> int:
    """Run the command line. Return exit status 1 if a response was wrong, a job is left or the memory grew."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description="Load test with random disconnects.")
    parser.add_argument("--minutes", type=float, default=10, help="duration (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random choices (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help=f"write the result to docs/{DOCUMENT.name}")
    options = parser.parse_args()
    stop_processes_at_sigterm()
    with run_servers([("bench.serving.constant_server",)]) as (server,):
        soak = asyncio.run(run_soak(server, options.minutes * 60, options.seed))
    section = soak.section(options.minutes)
    section.print()
    for line in soak.wrong[:20]:
        print(line)
    if options.write:
        DOCUMENT.write_text(replace_section(DOCUMENT.read_text(), section, describe_machine()))
    return 0 if all(goal.met for goal in section.goals) else 1


if __name__ == "__main__":
    sys.exit(main())
