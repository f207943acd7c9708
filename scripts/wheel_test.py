"""Build the wheel, install it outside the checkout with and without the extra `server`, and use it.

Run by `make wheel-test`. With `--client-only` the extra is left out, so that torch is not installed. If the test
passes, the wheel is copied to dist/.
"""

import argparse
import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.setup_env import QUIET, ROOT, cpu_build_of_torch, wants_cpu_build

HOST = "127.0.0.1"
STARTUP_S = 180
"""Maximum time in seconds until a server is ready."""

NOT_COPIED = (".*", "build", "dist", "models", "node_modules", "__pycache__", "*.egg-info")

IMPORT_WITHOUT_TORCH = """
from importlib.util import find_spec
import codec_client
from codec_client import GrpcClient, HttpClient, LatentStreamDecoder, decode_to_images

assert "site-packages" in codec_client.__file__, codec_client.__file__
installed = [name for name in ("torch", "diffusers", "transformers") if find_spec(name)]
assert not installed, f"installed without the extra server: {installed}"
"""

RECEIVE_LATENTS = """
import sys
from codec_client import GrpcClient, HttpClient

server, gateway, grpc = sys.argv[1:]
for client in (HttpClient(server), HttpClient(gateway), GrpcClient(grpc)):
    with client.blocking() as blocking:
        generation = blocking.generate("a calm sea", size=(256, 256), steps=2, seed=1, pipeline="int8")
        assert generation.latents.shape == (1, 4, 32, 32), generation.latents.shape
"""

DECODE_NEXT_TO_ANOTHER_CORE = """
import sys
import core
from codec_client import HttpClient, decode_to_images

assert core.FOREIGN
with HttpClient(sys.argv[1]).blocking() as client:
    generation = client.generate("a calm sea", size=(256, 256), steps=2, seed=1, pipeline="int8")
    latent_map = client.latent_map(generation.map_hash).latent_map
(image,) = decode_to_images(generation.latents, latent_map)
assert image.size == (256, 256), image.size
"""

CHECK_IMAGE = """
import sys
from PIL import Image

with Image.open(sys.argv[1]) as image:
    assert image.size == (256, 256), image.size
"""


class Installation:
    """A virtual environment that contains the wheel, and a directory to run its programs in."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.work = folder / "work"
        venv.create(folder, with_pip=True)
        self.work.mkdir()
        # No variable may make the checkout importable or configure the server.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CODEC_"))}
        self.environment = inherited | {"HF_HUB_OFFLINE": "1", "XDG_CACHE_HOME": str(self.work / "cache")}

    def pip_install(self, *requirements: str | Path, check: bool = True) -> bool:
        """Install with the versions of constraints.txt; return whether it succeeded."""
        command = [self.bin / "python", "-m", "pip", "install", *QUIET, "-c", ROOT / "constraints.txt", *requirements]
        return subprocess.run(command, check=check, stderr=None if check else subprocess.DEVNULL).returncode == 0

    def run(self, program: str, *arguments: str, folder: Path | None = None) -> str:
        """Run an installed program; return its stdout. Raises CalledProcessError if it fails."""
        done = subprocess.run(
            [self.bin / program, *arguments],
            cwd=folder or self.work,
            env=self.environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=300,
        )
        return done.stdout.strip()

    @contextmanager
    def serving(self, *arguments: str, port: int) -> Iterator[None]:
        """Run `codec-diffusers` with these arguments inside the `with` block. Wait until the server is ready.

        Raises RuntimeError, with the server's output, if it does not become ready.
        """
        log = self.work / f"{arguments[0]}.log"
        command: list[str | Path] = [self.bin / "codec-diffusers", *arguments, "--port", str(port)]
        with log.open("w") as output:
            process = subprocess.Popen(
                command, cwd=self.work, env=self.environment, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            deadline = time.monotonic() + STARTUP_S
            while not ready(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{arguments[0]} did not become ready:\n{log.read_text()}")
                time.sleep(0.2)
            yield
        finally:
            process.terminate()
            process.wait(60)


def ready(port: int) -> bool:
    """Return whether a server on this port reports that it is ready."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on."""
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextmanager
def step(name: str) -> Iterator[None]:
    """Print `name` and how long it took."""
    started = time.perf_counter()
    print(f"{name} ...", flush=True)
    yield
    print(f"  {time.perf_counter() - started:6.1f} s", flush=True)


def build_wheel(folder: Path, python: Path) -> Path:
    """Build the wheel with the pip of `python`; return its path. The files of earlier builds are not used."""
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*NOT_COPIED))
    subprocess.run([python, "-m", "pip", "wheel", *QUIET, "--no-deps", "--wheel-dir", folder, source], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def check_client(client: Installation, wheel: Path) -> None:
    """Check the parts that work without torch: the version, the client's imports and the help of the commands."""
    client.pip_install(wheel)
    version = wheel.name.split("-")[1]
    assert client.run("codec-diffusers", "--version") == version, f"--version does not print {version}"
    client.run("python", "-c", IMPORT_WITHOUT_TORCH)
    client.run("codec-diffusers", "gateway", "--help")


def check_server(server: Installation, client: Installation, wheel: Path) -> None:
    """Generate an image, serve latents to the client without torch, and decode them next to a package named core."""
    with step("Installing the wheel with [server]"):
        if wants_cpu_build():
            server.pip_install(cpu_build_of_torch(), check=False)
        server.pip_install(f"codec-diffusers[server] @ {wheel.as_uri()}")
    with step("Generating an image"):
        server.run("codec-diffusers", "generate", "a calm sea", "--size", "256x256", "--steps", "4", "-o", "sea.png")
        server.run("python", "-c", CHECK_IMAGE, "sea.png")
    port, grpc_port, gateway_port = free_ports(3)
    url, gateway_url, grpc = f"http://{HOST}:{port}", f"http://{HOST}:{gateway_port}", f"{HOST}:{grpc_port}"
    with (
        server.serving("serve", "--grpc-port", str(grpc_port), port=port),
        client.serving("gateway", "--upstream", grpc, port=gateway_port),
    ):
        with step("Loading the page"):
            check_page(port)
        with step("Receiving latents without torch, from the server and from a gateway"):
            client.run("python", "-c", RECEIVE_LATENTS, url, gateway_url, grpc)
        with step("Decoding latents in a directory with another package named core"):
            project = server.work / "project"
            (project / "core").mkdir(parents=True)
            (project / "core" / "__init__.py").write_text("FOREIGN = True\n")
            server.run("python", "-c", DECODE_NEXT_TO_ANOTHER_CORE, url, folder=project)


def check_page(port: int) -> None:
    """Check that the installed server has the page, and its decoder if `make web` has built it in this checkout."""
    page, script = get(port, "/"), get(port, "/page/page.js")
    assert script, "the script of the page is empty"
    built = (ROOT / "codec_http" / "page" / "ort-wasm.wasm").exists()
    decoders = b'data-decoders="wasm webgpu"' if built else b'data-decoders=""'
    assert decoders in page, f"the page does not contain {decoders!r}"


def get(port: int, path: str) -> bytes:
    """Return the response that a browser gets from the server on this port. Raises RuntimeError unless it is 200."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", path, headers={"Accept": "text/html, */*"})
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise RuntimeError(f"GET {path}: {response.status}")
        return response.read()
    finally:
        connection.close()


def main() -> int:
    """Run the test; return the process's exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--client-only", action="store_true", help="do not test the extra `server`, so that torch is not installed"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wheel-test-") as name:
        folder = Path(name)
        client = Installation(folder / "client")
        with step("Building the wheel"):
            wheel = build_wheel(folder, client.bin / "python")
        with step("Installing and using the wheel without extras"):
            check_client(client, wheel)
        if not options.client_only:
            check_server(Installation(folder / "server"), client, wheel)
        dist = ROOT / "dist"
        dist.mkdir(exist_ok=True)
        print(f"passed: {shutil.copy(wheel, dist)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
