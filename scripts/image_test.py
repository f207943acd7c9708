"""Build both container images with buildah, request latents from one and run the quality gate in the other.

Run by `make image-test`.

Requires a Debian machine, root, Debian's package mirror and a package index for pip; installs missing tools.
"""

import http.client
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.image_test_build import (
    IMAGES,
    ROOT,
    WORK,
    Buildah,
    Failed,
    build_image,
    install_tools,
    make_base,
    require,
)
from scripts.image_test_serve import HOST, Container, check_answer, check_page, check_privileges, image_config
from scripts.setup_env import pinned_requirements

STEPS = 30
LONG_STEPS = 120
"""Number of steps of the generation that is running when SIGTERM is sent. It takes a few seconds."""
DRAINING_WITHIN_S = 5.0
PINS_FILE = "/opt/codec/pins.json"
FIXTURES = ("--fixtures", "256")
PIPELINES = 5
"""Number of pipelines for images."""
PORTS = {"8080/tcp", "50051/tcp"}

CHECK_GRPC_HEALTH = """
import sys, grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
stub = health_pb2_grpc.HealthStub(grpc.insecure_channel(sys.argv[1]))
print(stub.Check(health_pb2.HealthCheckRequest(), timeout=20).status == health_pb2.HealthCheckResponse.SERVING)
"""
PRINT_VERSIONS = """
from importlib.metadata import version
print(*(f"{name}=={version(name).partition('+')[0]}" for name in ("torch", "diffusers", "transformers")))
"""
PRINT_PATHS = """
import importlib.util, os, core
without_pip = importlib.util.find_spec("pip") is None
print(core.__file__, without_pip, os.access("/models", os.W_OK), os.environ["HF_HOME"])
"""


@contextmanager
def step(name: str) -> Iterator[list[str]]:
    """Print `name`, the seconds it took, and the strings appended to the yielded list."""
    started = time.perf_counter()
    found: list[str] = []
    print(f"{name} ...", flush=True)
    yield found
    print(f"  {time.perf_counter() - started:6.1f} s  {'; '.join(found) or 'done'}", flush=True)


def check_config(config: dict[str, Any]) -> None:
    """Raise Failed unless the image's configuration is as docs/image.md documents it."""
    require(set(config.get("ExposedPorts", {})) == PORTS, f"EXPOSE must be {PORTS}, got {config.get('ExposedPorts')}")
    require(set(config.get("Volumes", {})) == {"/models"}, f"VOLUME must be /models, got {config.get('Volumes')}")
    require(
        config["Entrypoint"] == ["codec-diffusers"], f"ENTRYPOINT must be codec-diffusers, got {config['Entrypoint']}"
    )
    require(config["Cmd"] == ["serve"], f"CMD must be serve, got {config['Cmd']}")
    require(config.get("Healthcheck", {}).get("Test", [None])[0] == "CMD", "HEALTHCHECK is missing or needs a shell")
    uid = config["User"].partition(":")[0]
    require(uid.isdecimal() and uid != "0", f"USER must be the uid of an unprivileged user, got {config['User']!r}")
    labels = config["Labels"]
    require("org.opencontainers.image.licenses" in labels, f"the OCI labels are missing: {labels}")


def check_contents(container: Container) -> str:
    """Raise Failed unless the image contains the pinned versions and the project, but not pip; return the versions."""
    pins = " ".join(pinned_requirements())
    versions = container.run("python", "-c", PRINT_VERSIONS)
    require(versions == pins, f"the image has {versions}, but pyproject.toml pins {pins}")
    path, without_pip, writable, hub = container.run("python", "-c", PRINT_PATHS).split()
    require("/site-packages/" in path, f"the project is imported from {path}")
    require(without_pip == "True", "the image contains pip, which must not be in it")
    require(writable == "True", "the image's user cannot write to /models")
    require(hub.startswith("/models/"), f"hub downloads would be stored in {hub}, outside the volume")
    return versions


def check_health(container: Container, command: tuple[str, ...]) -> None:
    """Raise Failed unless the image's health check passes, and fails on a port without a server."""
    container.run(*command)
    try:
        container.run(*command, env={"CODEC_PORT": "9"})
    except Failed:
        return
    raise Failed("the health check passes although no server is running")


def check_stop(container: Container) -> None:
    """Send SIGTERM during a generation.

    Raises Failed unless the generation completes, new requests are refused and the exit status is 0.
    """
    answer = container.generate(LONG_STEPS)
    require(answer.status == http.client.OK, f"a request for {LONG_STEPS} steps must receive 200, got {answer.status}")
    os.kill(container.process(), signal.SIGTERM)
    deadline = time.monotonic() + DRAINING_WITHIN_S
    while (status := container.readiness()) == http.client.OK and time.monotonic() < deadline:
        time.sleep(0.02)
    require(
        status == http.client.SERVICE_UNAVAILABLE,
        f"/readyz must return 503 while a generation runs after SIGTERM, got {status}",
    )
    refused = container.generate(STEPS).status
    require(
        refused == http.client.SERVICE_UNAVAILABLE, f"a request to a draining server must receive 503, got {refused}"
    )
    check_answer(answer)
    ended = container.wait_until_ended()
    require(ended == 0, f"the exit status of the server must be 0, got {ended}")


def run_once(buildah: Buildah, config: dict[str, Any]) -> None:
    """Start the image, use it and stop it. Raises Failed."""
    uid = int(config["User"].partition(":")[0])
    models = WORK / "models"
    shutil.rmtree(models, ignore_errors=True)
    models.mkdir(parents=True)
    os.chown(models, uid, uid)  # a new volume also belongs to the image's user
    container = Container(buildah, IMAGES["server"])
    try:
        with step("Checking the contents of the image") as found:
            found.append(check_contents(container))
        with step(f"Starting the server on {HOST}:{container.http_port} and {container.grpc_port}") as found:
            container.start((*config["Entrypoint"], *config["Cmd"]), models, uid)
            container.wait_until_ready()
            check_privileges(container.process(), uid)
            found.append(f"ready, as uid {uid}, without capabilities, on a read-only root file system")
        with step("Requesting latents with the documented request") as found:
            check_answer(container.generate(STEPS))
            found.append("200, Codec-Latent-Map, all bytes received")
        with step("Loading the page and its decoder for browsers"):
            check_page(container.http_port)
        with step("Checking the health of the server, with the image's health check and over gRPC"):
            check_health(container, tuple(config["Healthcheck"]["Test"][1:]))
            serving = container.run("python", "-c", CHECK_GRPC_HEALTH, f"{HOST}:{container.grpc_port}")
            require(serving == "True", "the gRPC health status is not SERVING")
        with step("Stopping the server with SIGTERM during a generation") as found:
            check_stop(container)
            found.append("the generation completed, new ones received 503, exit status 0")
        require(
            "NOT THE REFERENCE" not in container.log.read_text(),
            "the server reports library versions that differ from the pinned ones",
        )
    except (Failed, OSError, http.client.HTTPException) as error:
        log = container.log.read_text(errors="replace")[-3000:] if container.log.exists() else ""
        raise Failed(f"{error}\n{log}") from None
    finally:
        container.remove()


def run_gate_once(buildah: Buildah, uid: int) -> None:
    """Build reference images in the golden image, and run the quality gate there. Raises Failed."""
    folder = WORK / "golden"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chown(folder, uid, uid)
    volumes = {WORK / "models": "/models", folder: "/golden"}
    server, golden = (Container(buildah, IMAGES[target]) for target in ("server", "golden"))
    command = image_config(buildah, IMAGES["golden"])["Entrypoint"]
    try:
        with step("Comparing the pins files of both images") as found:
            pins = [container.run("cat", PINS_FILE) for container in (server, golden)]
            require(pins[0] == pins[1], f"the pins files of the images must be equal, got {pins[0]} and {pins[1]}")
            found.append("equal")
        with step("Building reference images in the golden image"):
            golden.run(*command, "build", "/golden", *FIXTURES, volumes=volumes)
        with step("Running the quality gate for every pipeline in the golden image"):
            written = ("--json", "/golden/verify.json", "--report", "/golden/report.html")
            table = golden.run(*command, "verify", "/golden", *FIXTURES, *written, volumes=volumes)
        print(table)
        results = json.loads((folder / "verify.json").read_text())
        require(results["passed"], "not every pipeline passed")
        rows = results["rows"]
        require(
            len(rows) == PIPELINES and all(row["bits"] == "exact" for row in rows),
            f"the results have the wrong rows: {rows}",
        )
        require(
            results["environment"]["pin_differences"] == [],
            "the golden image reports library versions that differ from the pinned ones",
        )
    finally:
        server.remove()
        golden.remove()


def size_of(buildah: Buildah, target: str) -> str:
    """Return the size of an image as buildah reports it."""
    return buildah("images", "--format", "{{.Size}}", IMAGES[target])


def check_image() -> None:
    """Build and use the image. Raises Failed."""
    require(os.geteuid() == 0, "root is required, for debootstrap and chroot")
    require(Path("/etc/debian_version").exists(), "a Debian machine is required, for apt and debootstrap")
    WORK.mkdir(parents=True, exist_ok=True)
    with step("Looking for buildah and debootstrap") as found:
        found += [f"installed {tool}" for tool in install_tools()]
    buildah = Buildah()
    with step("Creating a Debian base image with debootstrap") as found:
        found.append("created" if make_base(buildah) else "exists")
    for target in IMAGES:
        with step(
            f"Building the target {target} on the base image (log: build-{target}.log in {WORK.relative_to(ROOT)})"
        ) as found:
            pip_options = build_image(buildah, target)
            found.append(f"{size_of(buildah, target)}, with pip's {', '.join(pip_options) or 'defaults'}")
    with step("Reading the server image's configuration"):
        config = image_config(buildah, IMAGES["server"])
        check_config(config)
    run_once(buildah, config)
    run_gate_once(buildah, int(config["User"].partition(":")[0]))


def main() -> int:
    """Run the test; return the process's exit status."""
    started = time.perf_counter()
    try:
        check_image()
    except Failed as error:
        print(f"{error}\nFAIL: the image test, after {time.perf_counter() - started:.0f} s")
        return 1
    print(f"PASS: the image builds, serves and stops as it should, in {time.perf_counter() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
