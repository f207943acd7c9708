"""The commands generate, decode, inspect and doctor: their files, output, errors and exit statuses."""

import gzip
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.map_store import bundle_folder
from tests.support.commands import invoke
from tests.support.serving import Servers, http_address

pytestmark = pytest.mark.usefixtures("command_environment")

REQUEST = ["a snowy mountain", "--steps", "3", "--size", "64x48", "--seed", "7"]


def run_failing(status: int, *arguments: object) -> str:
    """Run a command that fails with the exit status `status`, and return its error message."""
    actual, output = invoke(*arguments)
    assert actual == status, output
    assert output.startswith("error: ")
    assert output.count("\n") <= 2, output
    return output


@pytest.mark.slow
def test_pipeline_from_a_factory_decodes_with_its_own_vae(servers: Servers, tmp_path: Path) -> None:
    factory = ["--factory", "tests.support.tiny_sd:build_pipeline", "--latent-space", "x/y", "--threads", "1"]
    assert invoke("generate", *REQUEST, "-o", tmp_path / "a.png", *factory)[0] == 0
    assert invoke("generate", *REQUEST, "-o", tmp_path / "b.png", "--grpc", servers.grpc_address)[0] == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), np.asarray(Image.open(tmp_path / "b.png")))


@pytest.mark.slow
def test_decoded_capture_equals_the_image_that_generate_writes(servers: Servers, tmp_path: Path) -> None:
    options = ["--server", http_address(servers), "--pipeline", "int8"]
    capture, direct, decoded = tmp_path / "a.bin", tmp_path / "a.png", tmp_path / "b.png"
    status, output = invoke("generate", *REQUEST, "-o", capture, "--json", *options)
    report = json.loads(output)
    assert (status, report["pipeline"], report["frames"]) == (0, "int8", 1)
    assert capture.stat().st_size == report["bytes"] == report["stream_bytes"]
    assert invoke("generate", *REQUEST, "-o", direct, *options)[0] == 0
    bundle = bundle_folder(Path(os.environ["CODEC_MODELS_DIR"]), "tiny-sd-vae")
    for source in ([], ["--server", http_address(servers)], ["--bundle", bundle]):
        assert invoke("decode", capture, "-o", decoded, *source)[0] == 0
        assert np.array_equal(np.asarray(Image.open(decoded)), np.asarray(Image.open(direct)))
    zipped = tmp_path / "a.bin.gz"
    zipped.write_bytes(gzip.compress(capture.read_bytes()))
    assert invoke("decode", zipped, "-o", decoded)[0] == 0


@pytest.mark.slow
def test_invalid_usage_fails_with_one_line_and_its_exit_status(servers: Servers, tmp_path: Path) -> None:
    image, server = tmp_path / "a.png", ["--server", http_address(servers)]
    assert "cannot connect to http://127.0.0.1:1: Connection refused" in run_failing(
        3, "generate", "x", "-o", image, "--server", "http://127.0.0.1:1"
    )
    assert "cannot connect to 127.0.0.1:1: Connection refused" in run_failing(
        3, "generate", "x", "-o", image, "--grpc", "127.0.0.1:1"
    )
    assert "prompt: must have at least 1 character" in run_failing(2, "generate", "", "-o", image, *server)
    assert "steps: must be at most" in run_failing(2, "generate", "x", "--steps", 9999, "-o", image, *server)
    assert "size: must be" in run_failing(2, "generate", "x", "--size", "big", "-o", image, *server)
    assert "this server serves tiny-sd" in run_failing(2, "generate", "x", "--model", "other", "-o", image, *server)
    assert "does not exist" in run_failing(2, "generate", "x", "-o", tmp_path / "no" / "a.png", *server)
    assert "the file format must be one of" in run_failing(2, "generate", "x", "-o", tmp_path / "a.tiff", *server)
    (tmp_path / "folder.png").mkdir()
    assert "cannot write" in run_failing(2, "generate", "x", "-o", tmp_path / "folder.png", *server)
    assert "--server and --grpc cannot be combined" in run_failing(
        2, "generate", "x", "-o", image, *server, "--grpc", "x:1"
    )
    assert "'missing' is neither a directory nor" in run_failing(1, "generate", "x", "-o", image, "--model", "missing")
    assert "is not an HTTP server; is it the gRPC port?" in run_failing(
        1, "generate", "x", "-o", image, "--server", f"http://{servers.grpc_address}"
    )
    assert "'video-latents' is not supported by tiny-sd" in run_failing(
        2, "generate", "x", "-o", tmp_path / "a.mp4", *server
    )
    assert "a .png file holds one image" in run_failing(2, "generate", "x", "-o", image, "--video", *server)
    assert "no VAE found in" in run_failing(2, "generate", "x", "-o", image, "--decoder", tmp_path, *server)
    assert "cannot read" in run_failing(2, "generate", "x", "-o", image, "--image", tmp_path / "no.png", *server)
    assert "cannot read" in run_failing(2, "decode", tmp_path / "no.bin", "-o", image)
    (tmp_path / "a.bin").write_bytes(b"hello")
    assert "is text, not a latent stream: 'hello'" in run_failing(4, "decode", tmp_path / "a.bin", "-o", image)
    (tmp_path / "a.bin.gz").write_bytes(gzip.compress(b"hello"))
    unreachable = ["--server", "http://127.0.0.1:1"]
    assert "cannot connect to http://127.0.0.1:1" in run_failing(
        3, "decode", tmp_path / "a.bin.gz", "-o", image, *unreachable
    )
    assert not image.exists()


@pytest.mark.slow
def test_doctor_loads_the_model_and_generates(tmp_path: Path) -> None:
    status, output = invoke("doctor", "--model", "tiny-sd", "--threads", "1", "--port", "0", "--grpc-port", "0")
    assert status == 0, output
    assert re.search(r"ok +generation +64x64, 4 steps in .* s; 1 frame decoded in", output)
    assert re.search(r"ok +device ", output)
    assert output.endswith("This machine can serve this model.\n")
    status, output = invoke("doctor", "--model", "missing", "--json")
    findings = {finding["what"]: finding for finding in json.loads(output)}
    assert (status, findings["model"]["state"]) == (1, "bad")


@pytest.mark.parametrize("command", ["generate", "decode", "inspect", "doctor"])
def test_help_has_an_example_and_the_exit_status(command: str) -> None:
    status, output = invoke(command, "--help")
    assert status == 0
    assert "Example" in output
    assert "Exit status: 0 success" in output
