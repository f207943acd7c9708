"""`codec-diffusers` as a subprocess."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

COMMAND = str(Path(sys.executable).parent / "codec-diffusers")
COVERAGE = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")
"""Variables with which coverage.py measures a subprocess."""


class Process:
    """A running command. A thread collects its stdout and stderr into `lines`."""

    def __init__(self, arguments: list[str], environment: dict[str, str], has_coverage: bool = True) -> None:
        inherited = {name: value for name, value in os.environ.items() if has_coverage or name not in COVERAGE}
        self.popen = subprocess.Popen(
            [COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            env=inherited | environment,
        )
        self.lines: list[str] = []
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def output(self) -> str:
        """The output received so far."""
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, seconds: float = 120) -> re.Match[str]:
        """Wait until `pattern` occurs in the output; fail if the process exits or `seconds` pass before."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if match := re.search(pattern, self.output):
                return match
            assert self.popen.poll() is None, self.output
            time.sleep(0.05)
        raise AssertionError(f"{pattern!r} not found within {seconds} s in:\n{self.output}")

    def exit_status(self, seconds: float = 60) -> int:
        """Wait until the process exits and return its status; `output` is complete afterwards."""
        status = self.popen.wait(seconds)
        self._reader.join(10)
        if self.popen.stdout is not None:
            self.popen.stdout.close()
        return status


@contextmanager
def killed_on_exit(process: Process) -> Iterator[Process]:
    """Yield `process`, and kill it on exit."""
    try:
        yield process
    finally:
        if process.popen.poll() is None:
            process.popen.kill()
        process.exit_status()


@contextmanager
def start_process(arguments: list[str], **environment: str) -> Iterator[Process]:
    """Run `codec-diffusers` with these arguments and additional environment variables; kill it on exit."""
    with killed_on_exit(Process(arguments, environment)) as process:
        yield process


@dataclass(frozen=True, slots=True)
class Addresses:
    """Addresses of a server: the URL of the HTTP server, and HOST:PORT of the gRPC server."""

    http: str
    grpc: str


@contextmanager
def start_server(*arguments: str, **environment: str) -> Iterator[Addresses]:
    """Run `codec-diffusers serve` on free ports with one CPU thread and without the Hugging Face hub.

    Yields once the server is ready.
    """
    ports = ["serve", "--port", "0", "--grpc-port", "0", "--threads", "1"]
    # A killed process does not write what coverage.py has measured, which costs 2 s at every start.
    variables = {"HF_HUB_OFFLINE": "1"} | environment
    with killed_on_exit(Process([*ports, *arguments], variables, has_coverage=False)) as process:
        http = process.wait_for(r"(http://127\.0\.0\.1:\d+)/v1/images").group(1)
        grpc = process.wait_for(r"gRPC +(127\.0\.0\.1:\d+)").group(1)
        process.wait_for("Ready after")
        yield Addresses(http, grpc)
