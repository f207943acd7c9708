"""Images per second, latencies and CPU time of the embedded model, for 1 to 16 concurrent requests.

    python -m bench.throughput                              about 15 minutes on two cores
    python -m bench.throughput --write                      also write the tables to docs/benchmarks.md
    python -m bench.throughput --fast "--batch-size 4"      measure fast mode with these flags of `serve`, repeatable

The programs are `codec-diffusers serve` in reference mode and in fast mode, a FastAPI server that is built like other
Codec servers, and a loop that calls the pipeline and writes PNG files. They run in turn in every round. Each request
has another prompt and seed.
"""

import argparse
import asyncio
import io
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np
import torch

from bench.serving.__main__ import DOCUMENT
from bench.serving.machine import describe_machine
from bench.serving.processes import ServerProcess, stop_processes_at_sigterm
from bench.serving.report import Goal, Section, Table, replace_section
from bench.throughput_peer import PATH, PIPELINE, arguments_of, load_pipeline

CONCURRENT = (1, 2, 4, 8, 16)
LOOP, PEER, REFERENCE = "pipe() + PNG in a loop", "FastAPI + pipe()", "serve --mode reference"
FAST = (
    "--batch-size 16 --compile none --no-channels-last --guidance-interval 0-1",
    "--batch-size 16 --compile none",
    "--batch-size 8",
)
"""Flags of the default measurements of fast mode.

These are batches alone, batches with the fast defaults but no compiler, and batches of 8 with all fast defaults, of
which smaller batches run without compilation.
"""
REQUEST_TIMEOUT_S = 600
TEXT = """\
The embedded model, {size} pixels and {steps} steps, with `--threads {threads}` in every program. The servers send
latents with `int8-adaptive`; the loop decodes them and writes a PNG to memory. The FastAPI server gives the pipeline to
one request at a time and encodes with codecai. The programs run in turn, in {rounds} rounds of at least {requests}
images per row; images/s is the median of the rounds. The CPU time is that of the program's process, from the kernel."""


@dataclass(slots=True)
class Measurement:
    """Results of one program at one number of concurrent requests: per round, and latencies of all requests."""

    images_per_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    """CPU seconds per image."""
    latencies_s: list[float] = field(default_factory=list)

    def add(self, images: int, wall_s: float, cpu_s: float, latencies_s: Sequence[float]) -> None:
        """Add a round."""
        self.images_per_s.append(images / wall_s)
        self.cpu_s.append(cpu_s / images)
        self.latencies_s += latencies_s


@dataclass(frozen=True, slots=True)
class Workload:
    """The images to generate: `requests` of `size` pixels (WIDTHxHEIGHT) per row and round."""

    size: str
    steps: int
    requests: int

    def body(self, number: int) -> dict[str, Any]:
        """Return the JSON body of request `number`."""
        return {
            "prompt": f"a snowy mountain at dusk, number {number}",
            "seed": number,
            "size": self.size,
            "steps": self.steps,
            "stream_format": "msgpack",
            "pipeline": PIPELINE,
        }

    def count(self, concurrent: int) -> int:
        """Return the number of requests with which `concurrent` are sent at a time."""
        return max(self.requests, concurrent)


async def send(port: int, bodies: Sequence[dict[str, Any]], concurrent: int) -> list[float]:
    """Send `bodies`, `concurrent` at a time, and return the latencies in seconds. Raises ValueError for a failure."""
    waiting = iter(bodies)
    latencies = []
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", timeout=timeout) as session:

        async def send_next() -> None:
            for body in waiting:
                started_at = time.perf_counter()
                async with session.post(PATH, json=body) as response:
                    content = await response.read()
                latencies.append(time.perf_counter() - started_at)
                if response.status != 200 or b"finish_reason\xa2ok" not in content:
                    raise ValueError(f"unexpected response {response.status}: {content[:200]!r}")

        await asyncio.gather(*(send_next() for _ in range(concurrent)))
    return latencies


def measure_server(server: ServerProcess, workload: Workload, concurrent: int, found: Measurement) -> None:
    """Add a round to `found`."""
    bodies = [workload.body(number) for number in range(workload.count(concurrent))]
    cpu_s, started_at = server.cpu_s, time.perf_counter()
    latencies = asyncio.run(send(server.ports["http"], bodies, concurrent))
    found.add(len(bodies), time.perf_counter() - started_at, server.cpu_s - cpu_s, latencies)


def measure_loop(pipeline: Any, workload: Workload, found: Measurement) -> None:
    """Add a round to `found`: one image after another in this process."""
    cpu_s, started_at = time.process_time(), time.perf_counter()
    latencies = []
    for number in range(workload.requests):
        image_at = time.perf_counter()
        pipeline(**arguments_of(workload.body(number))).images[0].save(io.BytesIO(), "PNG")
        latencies.append(time.perf_counter() - image_at)
    found.add(workload.requests, time.perf_counter() - started_at, time.process_time() - cpu_s, latencies)


def start_servers(stack: ExitStack, fast: Sequence[str], threads: int) -> dict[str, ServerProcess]:
    """Start all servers, wait until they are ready, and return them by name. Closing `stack` stops them."""
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    serve: tuple[str, ...] = ("codec_server", "serve", "--port", "0", "--grpc-port", "0", "--models-dir", folder)
    serve += ("--threads", str(threads), "--max-jobs-per-client", "32", "--log-level", "error")
    commands = {PEER: ("bench.throughput_peer", str(threads)), REFERENCE: serve}
    for flags in fast:
        commands[f"fast: {flags}"] = (*serve, "--mode", "fast", "--fast-unmeasured", "allow", *flags.split())
    servers = {}
    for name, command in commands.items():  # one after another, because loading and compiling take all cores
        server = ServerProcess(*command, ready="ready" if name == PEER else "Ready after")
        stack.callback(server.stop)
        servers[name] = server.wait_until_ready()
    return servers


def measure(
    workload: Workload, concurrent: Sequence[int], fast: Sequence[str], rounds: int, threads: int
) -> dict[tuple[str, int], Measurement]:
    """Return the measurements by program and number of concurrent requests."""
    torch.set_num_threads(threads)
    pipeline = load_pipeline()
    measure_loop(pipeline, workload, Measurement())  # fills caches
    results: dict[tuple[str, int], Measurement] = {}
    with ExitStack() as stack:
        servers = start_servers(stack, fast, threads)
        for server in servers.values():
            measure_server(server, workload, 1, Measurement())
        for _ in range(rounds):
            for count in concurrent:
                measure_loop(pipeline, workload, results.setdefault((LOOP, 1), Measurement()))
                for name, server in servers.items():
                    measure_server(server, workload, count, results.setdefault((name, count), Measurement()))
    return results


def section_of(results: dict[tuple[str, int], Measurement], text: str, flags: Sequence[str] = ()) -> Section:
    """Return the section of the document with `results`, which were measured with the command-line `flags`."""
    speeds = {key: statistics.median(found.images_per_s) for key, found in results.items()}
    loop = speeds[LOOP, 1]
    rows = []
    for (name, count), found in sorted(results.items(), key=lambda item: (item[0][1], item[0][0] != LOOP)):
        speed = speeds[name, count]
        p50, p99 = np.percentile(found.latencies_s, (50, 99))
        reference = speeds.get((REFERENCE, count), speed)
        cells = (f"{speed:.2f}", f"{speed / loop:.2f} x", f"{speed / reference:.2f} x")
        cpu = f"{statistics.median(found.cpu_s):.2f}"
        rows.append((name, str(count), *cells, cpu, f"{p50:.2f}", f"{p99:.2f}"))
    heading = (
        "program",
        "concurrent",
        "images/s",
        "to the loop",
        "to reference",
        "CPU s per image",
        "p50, s",
        "p99, s",
    )
    most = max(count for _, count in results)
    best = max(speed for (name, count), speed in speeds.items() if name.startswith("fast") and count == most)
    goals = [
        Goal(f"{REFERENCE}, 1 concurrent: images/s to {LOOP}", speeds[REFERENCE, 1] / loop, 1.05, at_least=True),
        Goal(
            f"fastest of fast mode, {most} concurrent: images/s to reference",
            best / speeds[REFERENCE, most],
            1.6,
            at_least=True,
        ),
    ]
    return Section(
        "throughput",
        "Concurrent requests",
        text,
        [Table(heading, rows)],
        goals,
        shlex.join(["bench.throughput", *flags]),
    )


def main() -> int:
    """Run the command line. Return exit status 1 if a goal is not met."""
    parser = argparse.ArgumentParser(description="Images per second of the embedded model.")
    parser.add_argument("--fast", action="append", metavar="FLAGS", help="flags of serve for fast mode; repeatable")
    parser.add_argument("--size", default="256x256", help="WIDTHxHEIGHT in pixels (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=10, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--requests", type=int, default=4, help="images per row and round (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads (default: all cores)")
    parser.add_argument("--concurrent", type=int, nargs="+", default=CONCURRENT, metavar="N")
    parser.add_argument("--write", action="store_true", help=f"write the tables to docs/{DOCUMENT.name}")
    options = parser.parse_args()
    stop_processes_at_sigterm()
    workload = Workload(options.size, options.steps, options.requests)
    fast = tuple(options.fast or FAST)
    results = measure(workload, options.concurrent, fast, options.rounds, options.threads)
    values = {name: getattr(options, name) for name in ("size", "steps", "threads", "rounds", "requests")}
    flags = [flag for flag in sys.argv[1:] if flag != "--write"]
    section = section_of(results, TEXT.format(**values), flags)
    section.print()
    if options.write:
        DOCUMENT.write_text(replace_section(DOCUMENT.read_text(), section, describe_machine()))
    return 1 if any(not goal.met for goal in section.goals) else 0


if __name__ == "__main__":
    sys.exit(main())
