"""Starts a container of the image for `make image-test`, talks to it, and stops it."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from scripts.image_test_build import WORK, Buildah, Failed, require

HOST = "127.0.0.1"
MODEL = "codec-diffusers/scenes"
LATENT_SPACE = "codec-diffusers/scenes-vae"
PIPELINE = "int8-adaptive"
SIDE = 256
BODY_BYTES = 4265
"""4 scales of 2 bytes, 4x32x32 values of one byte, and the 161 bytes of the two msgpack messages around them."""
LAST_BYTES = b"\xa2ok"
"""How a whole body ends: the finish reason "ok" in msgpack."""
READY_WITHIN_S = 300.0
STOPPED_WITHIN_S = 90.0
"""More than the server's own limits: 30 s to drain, 10 s for what is cancelled."""


class Container:
    """A working container; the server in it shares this machine's network."""

    def __init__(self, buildah: Buildah, image: str) -> None:
        self._buildah = buildah
        self._id = buildah("from", "--pull=never", image)
        # buildah would mount its own volume there too, and which of the two lies on top differs from run to run.
        buildah("config", "--volume", "/models-", self._id)
        self._server: subprocess.Popen[bytes] | None = None
        self.log = WORK / "server.log"
        self.http_port, self.grpc_port = _free_ports()
        self._settings = {
            "CODEC_HOST": HOST,
            "CODEC_PORT": str(self.http_port),
            "CODEC_GRPC_PORT": str(self.grpc_port),
        }

    def run(
        self, *command: str, volumes: Mapping[Path, str] | None = None, env: Mapping[str, str] | None = None
    ) -> str:
        """Run a command in it, as the image's user and with the server's settings; return what it wrote."""
        return self._buildah(*self._run_arguments(command, volumes or {}, env or {}))

    def start(self, command: tuple[str, ...], models: Path) -> None:
        """Start `command`, the server, over `models`."""
        arguments = self._run_arguments(command, {models: "/models"}, {})
        with self.log.open("w") as log:
            self._server = subprocess.Popen(
                self._buildah.command(*arguments),
                env=self._buildah.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_until_ready(self) -> None:
        """Return once /readyz answers 200. Raises Failed when the server ends before, or takes too long."""
        deadline = time.monotonic() + READY_WITHIN_S
        while self.readiness() != http.client.OK:
            require(self._started.poll() is None, "the server ended while it started")
            require(time.monotonic() < deadline, f"the server was not ready within {READY_WITHIN_S:g} s")
            time.sleep(0.25)

    def readiness(self) -> int | None:
        """Return the status of /readyz, None where nothing answers."""
        connection = http.client.HTTPConnection(HOST, self.http_port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()

    def generate(self, steps: int) -> http.client.HTTPResponse:
        """Send the documented request, for this model and size; return its answer once that begins."""
        connection = http.client.HTTPConnection(HOST, self.http_port, timeout=120)
        request = {
            "model": MODEL,
            "prompt": "a wide-angle photograph of a snowy mountain at dusk",
            "stream_format": "msgpack",
            "modality": "image-latents",
            "latent_space": LATENT_SPACE,
            "pipeline": PIPELINE,
            "size": f"{SIDE}x{SIDE}",
            "steps": steps,
            "seed": 42,
        }
        headers = {"Content-Type": "application/json", "Accept": "application/x-codec-msgpack"}
        connection.request("POST", "/v1/images/generations", json.dumps(request), headers)
        return connection.getresponse()

    def process(self) -> int:
        """Return the pid of the server itself, below buildah's own processes."""
        for pid in _descendants(self._started.pid):
            with suppress(OSError):
                if Path(f"/proc/{pid}/exe").readlink().name.startswith("python"):
                    return pid
        raise Failed("there is no Python process below buildah")

    def wait_until_ended(self) -> int:
        """Return the server's exit status. Raises Failed when it does not end."""
        try:
            return self._started.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"the server did not end within {STOPPED_WITHIN_S:g} s of SIGTERM") from None

    def remove(self) -> None:
        """End what still runs in it and remove it."""
        if self._server is not None and self._server.poll() is None:
            for pid in [*_descendants(self._server.pid), self._server.pid]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._server.wait()
        self._buildah("rm", self._id)

    @property
    def _started(self) -> "subprocess.Popen[bytes]":
        if self._server is None:
            raise Failed("the server was not started")
        return self._server

    def _run_arguments(
        self, command: tuple[str, ...], volumes: Mapping[Path, str], env: Mapping[str, str]
    ) -> tuple[str, ...]:
        options = [("--volume", f"{source}:{target}") for source, target in volumes.items()]
        options += [("--env", f"{name}={value}") for name, value in (self._settings | dict(env)).items()]
        return ("run", *(word for option in options for word in option), self._id, "--", *command)


def check_answer(answer: http.client.HTTPResponse) -> None:
    """Raise Failed unless `answer` is a whole latent stream as WIRE.md counts its bytes."""
    body = answer.read()
    require(answer.status == http.client.OK, f"the request got {answer.status}: {body[:500]!r}")
    latent_map = answer.getheader("Codec-Latent-Map", "")
    require(re.fullmatch("sha256:[0-9a-f]{64}", latent_map) is not None, f"Codec-Latent-Map is {latent_map!r}")
    coding = answer.getheader("Content-Encoding")
    require(coding is None, f"the body came as {coding}, and none was asked for")
    require(len(body) == BODY_BYTES, f"the body has {len(body)} bytes instead of {BODY_BYTES}")
    require(body.endswith(LAST_BYTES), f"the stream does not end well: {body[-40:]!r}")


def user_ids(pid: int) -> set[int]:
    """Return the real, effective and saved uids of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("Uid:"))
    return {int(word) for word in line.split()[1:]}


def image_config(buildah: Buildah, image: str) -> dict[str, Any]:
    """Return what the image says of itself: user, ports, volumes, commands."""
    config: dict[str, Any] = json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]
    return config


def _descendants(pid: int) -> Iterator[int]:
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in children.read_text().split():
                yield int(child)
                yield from _descendants(int(child))


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind((HOST, 0))
        return one.getsockname()[1], other.getsockname()[1]
