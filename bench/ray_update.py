"""Rolling update of a model by `serve deploy` under load, on a cluster that `ray start` has started.

    python -m bench.ray_update

The cluster listens on the loopback interface. A codec-diffusers server connects to it, and clients send requests one
after another. Then `serve deploy` deploys the same application with another setting. At the end the server gets
SIGTERM, and the application must still run.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from codec_client import HttpClient
from tests.support.upstream_servers import free_port

BIN = Path(sys.executable).parent
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # so that Ray listens on the loopback interface
    "HF_HUB_OFFLINE": "1",
}
CONFIG = """
proxy_location: Disabled
applications:
  - name: scenes
    import_path: codec_ray.app:build
    route_prefix: null
    args: {{model: embedded, device: cpu, threads: 1, replicas: {replicas}, max_memory_mib: {memory}}}
"""
TIMEOUT_S = 240
PAUSE_S = 0.02


class Load:
    """Clients that send requests one after another, and what became of the requests."""

    def __init__(self, url: str, clients: int) -> None:
        self.succeeded = 0
        self.failed: Counter[str] = Counter()
        self.slowest_s = 0.0
        self._url = url
        self._tasks = [asyncio.create_task(self._send()) for _ in range(clients)]
        self._is_stopped = False

    async def _send(self) -> None:
        async with HttpClient(self._url, timeout_s=TIMEOUT_S, retries=TIMEOUT_S) as client:
            while not self._is_stopped:
                started_at = time.monotonic()
                try:
                    await client.generate("a sea", size=(64, 64), steps=4, seed=3, pipeline="int8")
                except Exception as error:  # every failure counts
                    self.failed[repr(error)] += 1
                else:
                    self.succeeded += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - started_at)
                await asyncio.sleep(PAUSE_S)

    async def stop(self) -> None:
        """Wait for the requests that were sent."""
        self._is_stopped = True
        await asyncio.gather(*self._tasks)


@contextmanager
def background(log: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command, and stop it with SIGTERM."""
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield process
        finally:
            process.terminate()


def wait_for_text(log: Path, text: str) -> None:
    """Wait until `log` contains `text`. Raises TimeoutError."""
    end = time.monotonic() + TIMEOUT_S
    while text not in log.read_text():
        if time.monotonic() > end:
            raise TimeoutError(f"{text!r} is not in {log}:\n{log.read_text()}")
        time.sleep(0.2)


def applications(dashboard: str) -> dict[str, dict[str, object]]:
    """Return the applications as Ray's dashboard describes them."""
    token = (Path.home() / ".ray" / "auth_token").read_text().strip()
    request = urllib.request.Request(
        f"{dashboard}/api/serve/applications/", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        found: dict[str, dict[str, object]] = json.load(response)["applications"]
    return found


def is_running(dashboard: str) -> bool:
    """Return whether all replicas of the application accept jobs."""
    with suppress(OSError, KeyError):
        return applications(dashboard)["scenes"]["status"] == "RUNNING"
    return False


async def wait_until_running(dashboard: str) -> None:
    """Wait until all replicas of the application accept jobs."""
    async with asyncio.timeout(TIMEOUT_S):
        while not await asyncio.to_thread(is_running, dashboard):  # noqa: ASYNC110 - the dashboard has no events
            await asyncio.sleep(0.5)


async def deploy(dashboard: str, folder: Path, replicas: int, memory: int) -> None:
    """Run `serve deploy`, and wait until all replicas accept jobs."""
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(replicas=replicas, memory=memory))
    command = [str(BIN / "serve"), "deploy", "-a", dashboard, str(config)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if await process.wait() != 0:
        raise RuntimeError(f"{' '.join(command)}: exit status {process.returncode}")
    await asyncio.sleep(1)  # until the controller has begun
    await wait_until_running(dashboard)


async def measure(folder: Path, replicas: int, clients: int) -> bool:
    """Run the update; print what happened. Return whether no request failed and the application still runs."""
    gcs, port, dashboard_port = free_port(), free_port(), free_port()
    dashboard = f"http://127.0.0.1:{dashboard_port}"
    start = f"start --head --block --node-ip-address=127.0.0.1 --port={gcs} --include-dashboard=true "
    start += f"--dashboard-host=127.0.0.1 --dashboard-port={dashboard_port} --num-cpus={2 * replicas + 2} "
    start += f"--object-store-memory={256 * 2**20}"
    serve = f"-m codec_server serve --engine ray --ray-address 127.0.0.1:{gcs} --port {port} --grpc-port {free_port()}"
    with background(folder / "head.log", str(BIN / "ray"), *start.split()):
        await asyncio.to_thread(wait_for_text, folder / "head.log", "will now block forever")
        await deploy(dashboard, folder, replicas, memory=4000)
        with background(folder / "server.log", sys.executable, *serve.split()) as server:
            await asyncio.to_thread(wait_for_text, folder / "server.log", "Ready after")
            load = Load(f"http://127.0.0.1:{port}", clients)
            await asyncio.sleep(5)
            before, load.slowest_s = load.slowest_s, 0.0
            started_at = time.monotonic()
            await deploy(dashboard, folder, replicas, memory=4100)
            seconds = time.monotonic() - started_at
            await asyncio.sleep(5)
            await load.stop()
            refused = (folder / "server.log").read_text().count("503 not_ready")
            server.send_signal(signal.SIGTERM)
            status = await asyncio.to_thread(server.wait, TIMEOUT_S)
        still_runs = await asyncio.to_thread(is_running, dashboard)
    print(f"update: {seconds:.1f} s")
    print(f"requests: {load.succeeded} succeeded, {sum(load.failed.values())} failed {dict(load.failed)}")
    print(f"refusals that clients repeated: {refused}")
    print(f"slowest request: {before:.1f} s before the update, {load.slowest_s:.1f} s during the update")
    print(f"server: exit status {status}; the application still runs: {still_runs}")
    return not load.failed and status == 0 and still_runs


def main() -> int:
    """Run the command line. Return exit status 1 if a request failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.ray_update", description="Rolling update under load.")
    parser.add_argument("--replicas", type=int, default=2, help="number of replicas (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=4, help="number of clients (default: %(default)s)")
    options = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    with tempfile.TemporaryDirectory() as folder:
        return 0 if asyncio.run(measure(Path(folder), options.replicas, options.clients)) else 1


if __name__ == "__main__":
    sys.exit(main())
