"""Builds the Dockerfile with buildah, asks the server image for latents and lets the golden one judge its own.

Run by `make image-test`.

Needs a Debian machine, root, Debian's package mirror and a package index for pip; installs the tools that it misses.
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
from scripts.image_test_serve import HOST, Container, check_answer, image_config, user_ids

STEPS = 30
LONG_STEPS = 120
"""Steps of the generation that is under way when SIGTERM comes: some seconds."""
DRAINING_WITHIN_S = 5.0
PINS_FILE = "/opt/codec/pins.json"
FIXTURES = ("--fixtures", "256")
PIPELINES = 5
"""Those that an image can have."""
PORTS = {"8080/tcp", "50051/tcp"}

ASK_GRPC_HEALTH = """
import sys, grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
stub = health_pb2_grpc.HealthStub(grpc.insecure_channel(sys.argv[1]))
print(stub.Check(health_pb2.HealthCheckRequest(), timeout=20).status == health_pb2.HealthCheckResponse.SERVING)
"""
SAY_VERSIONS = """
from importlib.metadata import version
print(*(f"{name}=={version(name).partition('+')[0]}" for name in ("torch", "diffusers", "transformers")))
"""
SAY_PLACES = """
import importlib.util, os, core
print(core.__file__, importlib.util.find_spec("pip") is None, os.access("/models", os.W_OK), os.environ["HF_HOME"])
"""


@contextmanager
def step(what: str) -> Iterator[list[str]]:
    """Print `what`, the seconds it took, and what is appended to the yielded list meanwhile."""
    started = time.perf_counter()
    found: list[str] = []
    print(f"{what} ...", flush=True)
    yield found
    print(f"  {time.perf_counter() - started:6.1f} s  {'; '.join(found) or 'done'}", flush=True)


def check_config(config: dict[str, Any]) -> None:
    """Raise Failed unless the image says of itself what docs/image.md promises."""
    require(set(config.get("ExposedPorts", {})) == PORTS, f"EXPOSE is {config.get('ExposedPorts')}")
    require(set(config.get("Volumes", {})) == {"/models"}, f"VOLUME is {config.get('Volumes')}")
    require(config["Entrypoint"] == ["codec-diffusers"], f"ENTRYPOINT is {config['Entrypoint']}")
    require(config["Cmd"] == ["serve"], f"CMD is {config['Cmd']}")
    require(config.get("Healthcheck", {}).get("Test", [None])[0] == "CMD", "HEALTHCHECK is missing or needs a shell")
    uid = config["User"].partition(":")[0]
    require(uid.isdecimal() and uid != "0", f"USER is {config['User']!r}, not the number of a plain user")
    labels = config["Labels"]
    require("org.opencontainers.image.licenses" in labels, f"the OCI labels are missing: {labels}")


def check_contents(container: Container) -> str:
    """Raise Failed unless the image holds the pinned versions and the installed project, and no pip; say what."""
    lines = (ROOT / "core" / "pins.txt").read_text().splitlines()
    pins = " ".join(line for line in lines if line and not line.startswith("#"))
    versions = container.run("python", "-c", SAY_VERSIONS)
    require(versions == pins, f"the image has {versions}, core/pins.txt says {pins}")
    place, without_pip, writable, hub = container.run("python", "-c", SAY_PLACES).split()
    require("/site-packages/" in place, f"the project runs from {place}")
    require(without_pip == "True", "pip is in the image")
    require(writable == "True", "the image's user may not write to /models")
    require(hub.startswith("/models/"), f"hub downloads would go to {hub}, outside of the volume")
    return versions


def check_health(container: Container, command: tuple[str, ...]) -> None:
    """Raise Failed unless the image's health check passes, and fails where no server is."""
    container.run(*command)
    try:
        container.run(*command, env={"CODEC_PORT": "9"})
    except Failed:
        return
    raise Failed("the health check passes without a server")


def check_stop(container: Container) -> None:
    """Send SIGTERM amid a generation. Raise Failed unless it ends whole, nothing new starts, and the status is 0."""
    answer = container.generate(LONG_STEPS)
    require(answer.status == http.client.OK, f"a request for {LONG_STEPS} steps got {answer.status}")
    os.kill(container.process(), signal.SIGTERM)
    deadline = time.monotonic() + DRAINING_WITHIN_S
    while (status := container.readiness()) == http.client.OK and time.monotonic() < deadline:
        time.sleep(0.02)
    require(status == http.client.SERVICE_UNAVAILABLE, f"/readyz says {status} while a generation runs after SIGTERM")
    refused = container.generate(STEPS).status
    require(refused == http.client.SERVICE_UNAVAILABLE, f"a request to a draining server got {refused}")
    check_answer(answer)
    ended = container.wait_until_ended()
    require(ended == 0, f"the server ended with status {ended}")


def run_once(buildah: Buildah, config: dict[str, Any]) -> None:
    """Start the image, use it and stop it. Raises Failed."""
    uid = int(config["User"].partition(":")[0])
    models = WORK / "models"
    shutil.rmtree(models, ignore_errors=True)
    models.mkdir(parents=True)
    os.chown(models, uid, uid)  # as a new volume belongs to the image's user
    container = Container(buildah, IMAGES["server"])
    try:
        with step("Looking into the image") as found:
            found.append(check_contents(container))
        with step(f"Starting it on {HOST}:{container.http_port} and {container.grpc_port}") as found:
            container.start((*config["Entrypoint"], *config["Cmd"]), models)
            container.wait_until_ready()
            ids = user_ids(container.process())
            require(ids == {uid}, f"the server runs with the uids {ids}")
            found.append(f"ready, as uid {uid}")
        with step("Asking for latents, as the documented curl does") as found:
            check_answer(container.generate(STEPS))
            found.append("200, Codec-Latent-Map, every byte there")
        with step("Asking for its health, over HTTP as the image does and over gRPC"):
            check_health(container, tuple(config["Healthcheck"]["Test"][1:]))
            serving = container.run("python", "-c", ASK_GRPC_HEALTH, f"{HOST}:{container.grpc_port}")
            require(serving == "True", "gRPC health does not say SERVING")
        with step("Stopping it with SIGTERM in the middle of a generation") as found:
            check_stop(container)
            found.append("the generation ended whole, new ones got 503, status 0")
        require("NOT THE REFERENCE" not in container.log.read_text(), "the server does not see the pinned versions")
    except (Failed, OSError, http.client.HTTPException) as error:
        log = container.log.read_text(errors="replace")[-3000:] if container.log.exists() else ""
        raise Failed(f"{error}\n{log}") from None
    finally:
        container.remove()


def judge_once(buildah: Buildah, uid: int) -> None:
    """Let the golden image make a reference of the embedded model and judge what the wire does to it. Raises Failed."""
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
            require(pins[0] == pins[1], f"they differ: {pins[0]} and {pins[1]}")
            found.append("equal")
        with step("Making reference pictures in the golden image"):
            golden.run(*command, "build", "/golden", *FIXTURES, volumes=volumes)
        with step("Judging every pipeline there"):
            written = ("--json", "/golden/verify.json", "--report", "/golden/report.html")
            table = golden.run(*command, "verify", "/golden", *FIXTURES, *written, volumes=volumes)
        print(table)
        judged = json.loads((folder / "verify.json").read_text())
        require(judged["passed"], "not every pipeline passed")
        rows = judged["rows"]
        require(len(rows) == PIPELINES and all(row["bits"] == "exact" for row in rows), f"the rows are {rows}")
        require(judged["environment"]["pin_differences"] == [], "the golden image is not the reference")
    finally:
        server.remove()
        golden.remove()


def size_of(buildah: Buildah, target: str) -> str:
    """Return an image's size, as buildah counts it."""
    return buildah("images", "--format", "{{.Size}}", IMAGES[target])


def check_image() -> None:
    """Build and use the image. Raises Failed."""
    require(os.geteuid() == 0, "run it as root: debootstrap and chroot need that")
    require(Path("/etc/debian_version").exists(), "a Debian machine is needed, for apt and debootstrap")
    WORK.mkdir(parents=True, exist_ok=True)
    with step("Looking for buildah and debootstrap") as found:
        found += [f"installed {tool}" for tool in install_tools()]
    buildah = Buildah()
    with step("Making a Debian base with debootstrap") as found:
        found.append("made" if make_base(buildah) else "there already")
    for target in IMAGES:
        with step(f"Building the target {target} on it (log: build-{target}.log in {WORK.relative_to(ROOT)})") as found:
            handed_in = build_image(buildah, target)
            found.append(f"{size_of(buildah, target)}, with pip's {', '.join(handed_in) or 'defaults'}")
    with step("Reading the server image's configuration"):
        config = image_config(buildah, IMAGES["server"])
        check_config(config)
    run_once(buildah, config)
    judge_once(buildah, int(config["User"].partition(":")[0]))


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
