"""The processes of the benchmark: the load generator, and servers, whose CPU time and memory the kernel reports."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Self

from bench.serving.load import LoadCommand

STOP_TIMEOUT_S = 20
_PORT = re.compile(r"(\w+)(?:=| +(?:http://)?127\.0\.0\.1:)(\d+)")
"""A name and a port, as in "http=8080" or "HTTP     http://127.0.0.1:8080/v1"."""


class ServerProcess:
    """A running server. `ports` are the ports that it has printed, by lower-case name: http, grpc."""

    def __init__(self, *command: str, ready: str = "ready") -> None:
        """Start `python -m` with `command`, a module and its arguments. The server is ready when it prints `ready`."""
        self._popen = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )
        self._ready = ready
        self.ports: dict[str, int] = {}

    def wait_until_ready(self) -> Self:
        """Wait until the server is ready. Raises RuntimeError if the process exits instead."""
        self.read_until(self._ready)
        return self

    def read_until(self, text: str) -> str:
        """Return the next line of the output that contains `text`. Raises RuntimeError if the process exits."""
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self.ports |= {name.lower(): int(port) for name, port in _PORT.findall(line)}
            if text in line:
                return line
        raise RuntimeError(f"a server exited with status {self._popen.wait()}")

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._popen.pid

    @property
    def cpu_s(self) -> float:
        """CPU time of the process in seconds, user and system, of all threads including those that have ended."""
        return time.clock_gettime((~self.pid << 3) | 2)  # clock_getcpuclockid(3); Linux

    def memory(self, field: str = "VmRSS") -> int:
        """Return a size in /proc/PID/status in bytes: VmRSS is the resident memory, VmHWM its maximum."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith(f"{field}:"))
        return int(line.split()[1]) * 1024

    def reset_peak(self) -> None:
        """Set VmHWM to the current resident memory."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def count_jobs(self) -> int:
        """Return the number of active jobs of bench.serving.constant_server."""
        self._popen.send_signal(signal.SIGUSR1)
        return int(self.read_until("jobs=").split("=")[1])

    def stop(self) -> None:
        """Stop the process with SIGTERM; kill it if it does not stop."""
        self._popen.terminate()
        try:
            self._popen.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        if self._popen.stdout is not None:
            self._popen.stdout.close()


@contextmanager
def run_servers(commands: Sequence[tuple[str, ...]]) -> Iterator[list[ServerProcess]]:
    """Start a server for each command (module and arguments) at the same time; stop them on exit."""
    servers = [ServerProcess(*command) for command in commands]
    try:
        yield [server.wait_until_ready() for server in servers]
    finally:
        for server in servers:
            server.stop()


def stop_processes_at_sigterm() -> None:
    """Let SIGTERM raise an exception in this process, so that the processes that it has started are stopped too."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))


class LoadProcess:
    """The client process."""

    def __init__(self) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "bench.serving.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, command: LoadCommand) -> list[float]:
        """Return the latency of every request in seconds. Raises RuntimeError if a response was not as expected."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.write(json.dumps(asdict(command)) + "\n")
        self._popen.stdin.flush()
        line = self._popen.stdout.readline()
        if not line:
            raise RuntimeError(f"the load process failed for {command}")
        latencies: list[float] = json.loads(line)
        return latencies

    def stop(self) -> None:
        """End the process."""
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                pipe.close()
        self._popen.wait(STOP_TIMEOUT_S)


@contextmanager
def run_load() -> Iterator[LoadProcess]:
    """Start the client process; end it on exit."""
    load = LoadProcess()
    try:
        yield load
    finally:
        load.stop()
