"""Attacks on a `serve` process on loopback, and their effect on other clients.

    python -m bench.attacks                       print a table
    python -m bench.attacks --tree OTHER_CHECKOUT attack the server of another checkout, e.g. of an older version

A server with the embedded model is started for each attack, which runs in another process. During the attack, GET
/livez and the gRPC health check are sent every 20 ms, each on a new connection. The table shows the slowest response of
each, the growth of the server's memory compared with an idle server, and the size of the log. The first row is measured
without an attack. After each attack, the server must complete a generation.
"""

import argparse
import asyncio
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Console
from rich.table import Table

from bench.attack_requests import ATTACKS, Attack

PROBE_INTERVAL_S = 0.02
PROBE_TIMEOUT_S = 30.0
ATTACK_TIMEOUT_S = 120.0
START_TIMEOUT_S = 180.0
GENERATION = b'{"prompt": "x", "stream_format": "msgpack", "steps": 1}'


@dataclass(frozen=True, slots=True)
class Server:
    """A running server process: its ports, its process id and its log file."""

    http_port: int
    grpc_port: int
    pid: int
    log: Path

    def rss_mb(self) -> float:
        """Return the resident memory in MB."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 1e6

    def cpu_s(self) -> float:
        """Return the CPU time of the process in seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running_server(tree: Path, files: int, *flags: str) -> Iterator[Server]:
    """Start the server of the checkout `tree` with a limit of `files` file descriptors; stop it on exit.

    `flags` are further arguments of `serve`.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            arguments = ["serve", "--port", "0", "--grpc-port", "0", "--models-dir", folder, "--threads", "1"]
            arguments.extend(flags)
            process = subprocess.Popen(
                [sys.executable, "-m", "codec_server", *arguments],
                cwd=tree,
                env=os.environ | {"PYTHONPATH": str(tree), "HF_HUB_OFFLINE": "1"},
                stdout=output,
                stderr=output,
            )
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (files, files))  # read when the server starts to listen
        try:
            text = _wait_for_start(process, log)
            http_port, grpc_port = (int(re.findall(rf"{name} .*?:(\d+)", text)[0]) for name in ("HTTP", "gRPC"))
            yield Server(http_port, grpc_port, process.pid, log)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def _wait_for_start(process: "subprocess.Popen[bytes]", log: Path) -> str:
    end = time.monotonic() + START_TIMEOUT_S
    while "Ready after" not in (text := log.read_text()):
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"the server did not start:\n{text}")
        time.sleep(0.2)
    return text


class Probes:
    """The latencies of /livez and of the gRPC health check, and the memory of the server, during a `with` block."""

    def __init__(self, server: Server) -> None:
        self.slowest = {"livez": 0.0, "gRPC": 0.0}
        self.failures = 0
        self.idle_mb = server.rss_mb()
        self.peak_mb = self.idle_mb
        self._server = server
        self._stop = Event()
        self._threads = [
            Thread(target=self._repeat, args=("livez", self._livez)),
            Thread(target=self._repeat, args=("gRPC", self._grpc)),
            Thread(target=self._watch_memory),
        ]

    def __enter__(self) -> "Probes":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, name: str, probe: Callable[[], None]) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                probe()
            except (OSError, grpc.RpcError):
                self.failures += 1
            self.slowest[name] = max(self.slowest[name], time.monotonic() - started)
            time.sleep(PROBE_INTERVAL_S)

    def _livez(self) -> None:
        url = f"http://127.0.0.1:{self._server.http_port}/livez"
        with urllib.request.urlopen(url, timeout=PROBE_TIMEOUT_S) as response:
            response.read()

    def _grpc(self) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{self._server.grpc_port}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            stub.Check(health_pb2.HealthCheckRequest(), timeout=PROBE_TIMEOUT_S)

    def _watch_memory(self) -> None:
        while not self._stop.is_set():
            self.peak_mb = max(self.peak_mb, self._server.rss_mb())
            time.sleep(PROBE_INTERVAL_S)


def run_attack(name: str, port: int) -> str:
    """Run the attack with this name in this process and return its outcome."""
    attack = next(attack for attack in ATTACKS if attack.name == name)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 8192), hard), hard))

    async def limited() -> str:
        async with asyncio.timeout(ATTACK_TIMEOUT_S):
            return await attack.run(port)

    try:
        return asyncio.run(limited())
    except TimeoutError:
        return f"not finished within {ATTACK_TIMEOUT_S:g} s"


def require_generation(server: Server) -> None:
    """Raise RuntimeError unless the server completes a generation."""
    url = f"http://127.0.0.1:{server.http_port}/v1/images/generations"
    request = urllib.request.Request(url, GENERATION, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PROBE_TIMEOUT_S) as response:
        if b"finish_reason\xa2ok" not in response.read():
            raise RuntimeError("the server did not complete a generation after the attack")


def measure(attack: Attack, tree: Path, table: Table) -> None:
    """Start a server, run `attack` and add a row to `table`."""
    with running_server(tree, attack.files) as server, ProcessPoolExecutor(1) as process:
        require_generation(server)
        process.submit(os.getpid).result()  # starts the process
        log_bytes = server.log.stat().st_size
        with Probes(server) as probes:
            port = server.grpc_port if attack.over_grpc else server.http_port
            future: Future[str] = process.submit(run_attack, attack.name, port)
            outcome = future.result()
        require_generation(server)
        logged = server.log.stat().st_size - log_bytes
    row = (
        attack.name,
        outcome,
        *(f"{probes.slowest[name] * 1000:.0f}" for name in ("livez", "gRPC")),
        str(probes.failures),
        f"{probes.peak_mb - probes.idle_mb:.0f}",
        f"{logged / 1000:.0f}",
    )
    print(*row, sep=" | ", file=sys.stderr, flush=True)
    table.add_row(*row)


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, default=Path.cwd(), help="checkout of the server (default: this one)")
    parser.add_argument("--only", default="", help="run only the attacks whose name contains this text")
    options = parser.parse_args()
    table = Table(*("attack", "outcome", "livez, ms", "gRPC, ms", "failed probes", "memory, MB", "log, kB"))
    for attack in ATTACKS:
        if options.only in attack.name:
            measure(attack, options.tree.resolve(), table)
    Console(width=150).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
