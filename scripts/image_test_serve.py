"""Run a container of an image for `make image-test`, send requests to it and stop it."""

import http.client
import json
import os
import re
import shutil
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
"""Size of the response: 4 scales of 2 bytes, 4x32x32 values of 1 byte, and 161 bytes for two msgpack messages."""
LAST_BYTES = b"\xa2ok"
"""End of a complete body: the finish reason "ok" in msgpack."""
READY_WITHIN_S = 300.0
HARDEN = (
    "mount -o remount,bind,ro / && exec setpriv --reuid={uid} --regid={uid} --clear-groups --bounding-set=-all"
    ' --no-new-privs -- "$@"'
)
"""Shell command that runs its arguments with docker's --read-only --cap-drop ALL --security-opt no-new-privileges,
which `buildah run` does not have. The shell needs to be root and needs two capabilities."""
DRAIN_TIMEOUT_S = 240
"""Longer than the default of 30 s, because the generation that is running at SIGTERM is slow on a busy machine."""
STOPPED_WITHIN_S = DRAIN_TIMEOUT_S + 60.0
"""Maximum time until the server has stopped: more than its drain timeout and 10 s for cancelled requests."""


class Container:
    """A buildah working container, which shares this machine's network."""

    def __init__(self, buildah: Buildah, image: str) -> None:
        self._buildah = buildah
        self._id = buildah("from", "--pull=never", image)
        # Otherwise buildah also mounts its own volume there, and it differs between runs which volume is visible.
        buildah("config", "--volume", "/models-", self._id)
        self._server: subprocess.Popen[bytes] | None = None
        self.log = WORK / "server.log"
        self.http_port, self.grpc_port = _free_ports()
        self._settings = {
            "CODEC_HOST": HOST,
            "CODEC_PORT": str(self.http_port),
            "CODEC_GRPC_PORT": str(self.grpc_port),
            "CODEC_DRAIN_TIMEOUT_S": str(DRAIN_TIMEOUT_S),
        }

    def run(
        self, *command: str, volumes: Mapping[Path, str] | None = None, env: Mapping[str, str] | None = None
    ) -> str:
        """Run a command in the container, as the image's user and with the server's settings; return its stdout."""
        return self._buildah(*self._run_arguments(command, volumes or {}, env or {}))

    def start(self, command: tuple[str, ...], models: Path, uid: int) -> None:
        """Start the server `command` as `uid` without privileges, with only `models` at /models and /tmp writable."""
        temporary = WORK / "container-tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        temporary.chmod(0o1777)
        hardened = ("sh", "-c", HARDEN.format(uid=uid), "sh", *command)
        privileges = ("--user", "0:0", "--cap-add", "CAP_SYS_ADMIN", "--cap-add", "CAP_SETPCAP")
        arguments = self._run_arguments(hardened, {models: "/models", temporary: "/tmp"}, {}, privileges)
        with self.log.open("w") as log:
            self._server = subprocess.Popen(
                self._buildah.command(*arguments),
                env=self._buildah.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_until_ready(self) -> None:
        """Wait until /readyz returns 200. Raises Failed if the server exits or takes too long."""
        deadline = time.monotonic() + READY_WITHIN_S
        while self.readiness() != http.client.OK:
            require(self._started.poll() is None, "the server exited during startup")
            require(time.monotonic() < deadline, f"the server was not ready within {READY_WITHIN_S:g} s")
            time.sleep(0.25)

    def readiness(self) -> int | None:
        """Return the status of /readyz, or None if the connection fails."""
        connection = http.client.HTTPConnection(HOST, self.http_port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()

    def generate(self, steps: int) -> http.client.HTTPResponse:
        """Send the documented request for this model and size; return the response after its headers are received."""
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
        """Return the pid of the server, a descendant of buildah's processes."""
        for pid in _descendants(self._started.pid):
            with suppress(OSError):
                if Path(f"/proc/{pid}/exe").readlink().name.startswith("python"):
                    return pid
        raise Failed("the server process was not found: buildah has no descendant that is a Python process")

    def wait_until_ended(self) -> int:
        """Return the server's exit status. Raises Failed if it does not exit."""
        try:
            return self._started.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"the server did not exit within {STOPPED_WITHIN_S:g} s of SIGTERM") from None

    def remove(self) -> None:
        """Kill the processes that still run in the container, and remove the container."""
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
        self,
        command: tuple[str, ...],
        volumes: Mapping[Path, str],
        env: Mapping[str, str],
        privileges: tuple[str, ...] = (),
    ) -> tuple[str, ...]:
        options = [("--volume", f"{source}:{target}") for source, target in volumes.items()]
        options += [("--env", f"{name}={value}") for name, value in (self._settings | dict(env)).items()]
        return ("run", *privileges, *(word for option in options for word in option), self._id, "--", *command)


def check_answer(answer: http.client.HTTPResponse) -> None:
    """Raise Failed unless `answer` is a complete latent stream of the documented size."""
    body = answer.read()
    require(answer.status == http.client.OK, f"the request received {answer.status}: {body[:500]!r}")
    latent_map = answer.getheader("Codec-Latent-Map", "")
    require(
        re.fullmatch("sha256:[0-9a-f]{64}", latent_map) is not None,
        f"Codec-Latent-Map must be sha256:HEX, got {latent_map!r}",
    )
    coding = answer.getheader("Content-Encoding")
    require(coding is None, f"Content-Encoding is {coding}, although the request has no Accept-Encoding")
    require(len(body) == BODY_BYTES, f"the body has {len(body)} bytes instead of {BODY_BYTES}")
    require(body.endswith(LAST_BYTES), f"the stream is incomplete and ends with {body[-40:]!r}")


def check_page(port: int) -> None:
    """Raise Failed unless the server at this port has a page that decodes in the browser."""
    for path, expected in (("/", b'data-decoders="wasm webgpu"'), ("/page/ort-wasm.wasm", b"\0asm")):
        connection = http.client.HTTPConnection(HOST, port, timeout=60)
        connection.request("GET", path, headers={"Accept": "text/html, */*"})
        answer = connection.getresponse()
        body = answer.read()
        require(answer.status == http.client.OK, f"{path} received {answer.status}: {body[:500]!r}")
        require(expected in body, f"{path} does not contain {expected!r}")


def check_privileges(pid: int, uid: int) -> None:
    """Raise Failed unless a process has the user `uid` and a read-only root, and cannot get capabilities."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    status = {name: values for name, *values in lines}
    require(set(status["Uid:"]) == {str(uid)}, f"the server runs with the uids {status['Uid:']}")
    for name in ("CapEff:", "CapPrm:", "CapBnd:"):
        require(int(status[name][0], 16) == 0, f"the server has the capabilities {name} {status[name]}")
    require(status["NoNewPrivs:"] == ["1"], "the server process may gain privileges (NoNewPrivs is not set)")
    mounts = [line.split() for line in Path(f"/proc/{pid}/mounts").read_text().splitlines()]
    (options,) = [mount[3].split(",") for mount in mounts if mount[1] == "/"][-1:]
    require("ro" in options, f"the root file system must be read-only, but is mounted with {options}")


def image_config(buildah: Buildah, image: str) -> dict[str, Any]:
    """Return the configuration of the image: user, ports, volumes, commands."""
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
