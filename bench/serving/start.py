"""Section `start`: how long commands take until they are ready or finished."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.serving.gateway import start_gateway, wait_until_serving
from bench.serving.processes import ServerProcess, run_servers
from bench.serving.report import Goal, Section, Table

ROUNDS = 5
TEXT = """\
Each command is started several times, one after the other, with its files in the cache of the operating system; the
table contains medians. `serve` and `generate` run the embedded model with one CPU thread. `serve` is ready when it
accepts generations, after its warm-up; the gateway when its upstream server has described its models. The wall time
includes waiting for other processes of the machine, the CPU time does not."""

Timing = tuple[float, float]
"""Wall and CPU seconds."""


def run_command(*arguments: str) -> Timing:
    """Run `codec-diffusers` until it exits. Raises CalledProcessError if it fails."""
    start, before = time.perf_counter(), os.times()
    command = [sys.executable, "-m", "codec_server", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - start, cpu


def run_server(start_server: Callable[[], ServerProcess]) -> Timing:
    """Start a server, wait until it accepts generations, and stop it."""
    start = time.perf_counter()
    server = start_server()
    try:
        wait_until_serving(server.wait_until_ready().ports["http"])
        return time.perf_counter() - start, server.cpu_s
    finally:
        server.stop()


def measure(*, rounds: int = ROUNDS) -> Section:
    """Run the commands and return the section."""
    with (
        run_servers([("bench.serving.constant_server",)]) as (upstream,),
        tempfile.TemporaryDirectory() as folder,
    ):
        serve = ("codec_server", "serve", "--port", "0", "--grpc-port", "0", "--threads", "1", "--models-dir", folder)
        image = str(Path(folder, "a.png"))
        generate = ("generate", "a snowy mountain at dusk", "--threads", "1", "-o", image, "--models-dir", folder)
        cases: list[tuple[str, float, Callable[[], Timing]]] = [
            ("codec-diffusers --help", 0.5, lambda: run_command("--help")),
            ("gateway ready", 1, lambda: run_server(lambda: start_gateway(upstream.ports["grpc"]))),
            ("serve ready", 8, lambda: run_server(lambda: ServerProcess(*serve, ready="Ready after"))),
            ("generate, 256x256, 25 steps", 8, lambda: run_command(*generate)),
        ]
        timings: dict[str, list[Timing]] = {name: [] for name, _, _ in cases}
        for _ in range(rounds):
            for name, _, run in cases:
                timings[name].append(run())
    rows, goals = [], []
    for name, limit, _ in cases:
        wall, cpu = (statistics.median(values) for values in zip(*timings[name], strict=True))
        rows.append((name, f"{wall:.2f}", f"{min(value for value, _ in timings[name]):.2f}", f"{cpu:.2f}"))
        goals.append(Goal(name, wall, limit, "s"))
    heading = ("", "wall, s", "shortest wall, s", "CPU, s")
    return Section("start", "Start times", TEXT, [Table(heading, rows)], goals)
