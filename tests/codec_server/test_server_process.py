"""serve and gateway as processes: output, shutdown, errors and exit statuses."""

import hashlib
import json
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from codec_wire import WireFormat
from core.map_store import bundle_folder
from tests.support.http_requests import IMAGES, JSON, request_head
from tests.support.processes import COMMAND, start_process
from tests.support.serving import read_stream
from tests.support.tiny_sd import save_model_and_map

pytestmark = pytest.mark.slow


def post(address: str, body: dict[str, object]) -> bytes:
    request = urllib.request.Request(f"http://{address}{IMAGES}", json.dumps(body).encode(), JSON)
    with urllib.request.urlopen(request, timeout=120) as response:
        data: bytes = response.read()
    return data


def info_of(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://{address}/codec/info", timeout=10) as response:
        info: dict[str, Any] = json.load(response)
    return info


def jobs_at(address: str) -> int:
    jobs: int = info_of(address)["jobs"]
    return jobs


BODY: dict[str, object] = {"prompt": "a sea", "stream_format": "msgpack", "pipeline": "int8", "size": "64x64"}


def start_long_request(address: str) -> tuple[Thread, list[bytes]]:
    """Start a request with many steps. Return its thread, and the list to which the response body is appended."""
    bodies: list[bytes] = []
    long = Thread(target=lambda: bodies.append(post(address, BODY | {"steps": 250})))
    long.start()
    while jobs_at(address) == 0:
        time.sleep(0.01)
    return long, bodies


def test_serve_prints_its_models_and_drains_on_sigterm(models_dir: Path) -> None:
    arguments = ["serve", "--model", "tiny-sd", "--models-dir", str(models_dir), "--port", "0", "--grpc-port", "0"]
    digest = f"sha256:{'d' * 64}"
    with start_process([*arguments, "--threads", "1"], CODEC_IMAGE_DIGEST=digest) as server:
        address = server.wait_for(r"http://(127\.0\.0\.1:\d+)/v1/images").group(1)
        assert info_of(address)["image_digest"] == digest
        grpc_address = server.wait_for(r"gRPC +(127\.0\.0\.1:\d+)").group(1)
        server.wait_for(r"Ready after")
        assert "tiny-sd-vae: raw, int8, int4" in server.output
        assert "deprecat" not in server.output.lower()
        server.wait_for(rf"codec-diffusers generate .* --server http://{re.escape(address)} -o mountain\.png")
        with start_process(["gateway", "--upstream", grpc_address, "--port", "0"]) as gateway:
            gateway_address = gateway.wait_for(r"http://(127\.0\.0\.1:\d+)/v1/images").group(1)
            gateway.wait_for("serve tiny-sd")
            for key in ("image_digest", "versions", "pin_differences", "device"):
                assert info_of(gateway_address)[key] == info_of(address)[key]
            assert post(gateway_address, BODY | {"steps": 2}) == post(address, BODY | {"steps": 2})
            gateway.popen.send_signal(signal.SIGINT)
            assert gateway.exit_status() == 0
        long, bodies = start_long_request(address)
        server.popen.send_signal(signal.SIGTERM)
        server.wait_for("Stopping")
        with pytest.raises(urllib.error.HTTPError) as rejected:
            post(address, BODY)
        assert rejected.value.code == 503
        rejected.value.close()
        long.join(60)
        assert server.exit_status() == 0
    assert read_stream(bodies[0], WireFormat.MSGPACK)[1][-1].finish_reason == "ok"
    assert "Traceback" not in server.output
    assert server.lines[-1] == "Stopped."


SLOW_MODEL = """
import time

def load():
    print("loading", flush=True)
    time.sleep(600)
"""


def test_signal_while_loading_stops_the_process(tmp_path: Path) -> None:
    (tmp_path / "slow_model.py").write_text(SLOW_MODEL)
    arguments = ["serve", "--pipeline", "slow_model:load", "--port", "0", "--grpc-port", "0"]
    with start_process(arguments, PYTHONPATH=str(tmp_path)) as process:
        process.wait_for(r"(?m)^loading$")
        process.popen.send_signal(signal.SIGTERM)
        assert process.exit_status(20) == 0
    assert process.lines[-1] == "Stopped."


def test_gateway_drains_on_sigterm(models_dir: Path) -> None:
    arguments = ["serve", "--model", "tiny-sd", "--models-dir", str(models_dir), "--port", "0", "--grpc-port", "0"]
    with start_process([*arguments, "--threads", "1"]) as server:
        grpc_address = server.wait_for(r"gRPC +(127\.0\.0\.1:\d+)").group(1)
        server.wait_for("Ready after")
        with start_process(["gateway", "--port", "0"], CODEC_UPSTREAM=grpc_address) as gateway:
            address = gateway.wait_for(r"http://(127\.0\.0\.1:\d+)/v1/images").group(1)
            gateway.wait_for("serve tiny-sd")
            long, bodies = start_long_request(address)
            gateway.popen.send_signal(signal.SIGTERM)
            long.join(60)
            assert gateway.exit_status() == 0
            assert read_stream(bodies[0], WireFormat.MSGPACK)[1][-1].finish_reason == "ok"
            assert "Traceback" not in gateway.output


def test_gateway_without_an_upstream_fails_with_status_2() -> None:
    assert "error: the gateway needs the address of a gRPC server" in run_failing(["gateway", "--port", "0"], 2)


def test_second_signal_ends_the_process_immediately(models_dir: Path) -> None:
    arguments = ["serve", "--model", "tiny-sd", "--models-dir", str(models_dir), "--port", "0", "--grpc-port", "0"]
    with start_process([*arguments, "--threads", "1"]) as server:
        address = server.wait_for(r"http://(127\.0\.0\.1:\d+)/v1/images").group(1)
        server.wait_for("Ready after")
        host, port = address.split(":")
        with socket.create_connection((host, int(port))) as client:
            body = json.dumps(BODY | {"steps": 250, "size": "512x512"}).encode()
            client.sendall(request_head(IMAGES, len(body)) + body)
            assert client.recv(12) == b"HTTP/1.1 200"
            server.popen.send_signal(signal.SIGINT)
            server.wait_for("Stopping")
            server.popen.send_signal(signal.SIGINT)
            assert server.exit_status(5) == 128 + signal.SIGINT


def run_failing(arguments: list[str], status: int) -> str:
    with start_process(arguments) as process:
        assert process.exit_status(120) == status, process.output
    assert "Traceback" not in process.output
    return process.output


def test_serve_without_a_model_serves_the_embedded_one_offline() -> None:
    with start_process(["serve", "--port", "0", "--grpc-port", "0", "--threads", "1"], HF_HUB_OFFLINE="1") as server:
        server.wait_for("Ready after")
        assert "codec-diffusers/scenes, 256x256" in server.output
        assert (
            "codec-diffusers/scenes-vae: raw, int8, int4, int8-adaptive, int4-adaptive, delta+int8, delta+int4"
            in server.output
        )
        server.popen.send_signal(signal.SIGTERM)
        assert server.exit_status(60) == 0, server.output


def test_missing_model_fails_with_status_1(tmp_path: Path) -> None:
    arguments = ["serve", "--model", "missing", "--models-dir", str(tmp_path), "--port", "0", "--grpc-port", "0"]
    assert "error: 'missing' is neither a directory nor" in run_failing(arguments, 1)


def serve_arguments(models_dir: Path) -> list[str]:
    return ["serve", "--model", "tiny-sd", "--models-dir", str(models_dir), "--port", "0", "--grpc-port", "0"]


def test_map_with_the_older_schema_fails_with_the_reason(tmp_path: Path) -> None:
    save_model_and_map(tmp_path, "tiny-sd-vae")
    folder = bundle_folder(tmp_path, "tiny-sd-vae")
    older = {"id": "tiny-sd-vae", "space_kind": "vae", "pipelines": ["raw", "int8"], "decoders": []}
    document = json.dumps(older).encode()
    (folder / "map.json").write_bytes(document)
    (folder / "map.json.sha256").write_text(f"{hashlib.sha256(document).hexdigest()}  map.json\n")
    output = run_failing(serve_arguments(tmp_path), 1)
    assert (
        f"{folder}: the latent-space map has keys of an older schema (space_kind, decoders, pipelines as strings)"
        in output
    )
    assert "convert the map to version 1 of the latent-space-map schema" in output


@pytest.mark.parametrize("flag", ["--port", "--grpc-port"])
def test_port_in_use_fails_with_status_2(flag: str) -> None:
    other = {"--port": "--grpc-port", "--grpc-port": "--port"}[flag]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        arguments = ["serve", "--model", "x", flag, str(taken.getsockname()[1]), other, "0"]
        assert f"cannot listen on 127.0.0.1:{taken.getsockname()[1]}" in run_failing(arguments, 2)


def test_unknown_flag_fails_with_the_most_similar_flag() -> None:
    output = run_failing(["serve", "--modle", "x"], 2)
    assert "No such option: --modle" in output
    assert "--model" in output


def test_every_setting_has_its_flag() -> None:
    from core.settings import Settings

    output = subprocess.run(
        [COMMAND, "serve", "--help"], capture_output=True, text=True, check=True, env={"COLUMNS": "200"}
    ).stdout
    for name in {name for name in Settings.model_fields if not name.startswith("upstream")} - {"lpips_backbone"}:
        assert re.search(rf"--{name.replace('_', '-')}[ ,]", output), name
        assert f"CODEC_{name.upper()}" in output
