"""Images of the embedded model, generated in process, over HTTP and over gRPC."""

import base64
import hashlib
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from codec_pixels.parameters import KEYWORD
from core.probe import sample_image, sample_mask
from tests.support.commands import invoke
from tests.support.http_requests import JSON
from tests.support.processes import Addresses

pytestmark = pytest.mark.slow

PROMPT = "a snowy mountain at dusk"
FIELDS: dict[str, Any] = {"size": "256x256", "steps": 2, "seed": 7}
REQUEST = [PROMPT, "--size", "256x256", "--steps", "2", "--seed", "7"]
PIPELINES = ("raw", "int8", "int4", "int8-adaptive", "int4-adaptive")
IN_PROCESS = ["--model", "embedded", "--threads", "1"]


def client_options(server: Addresses) -> dict[str, list[str]]:
    return {
        "in process": IN_PROCESS,
        "http": ["--server", server.http],
        "protobuf": ["--server", server.http, "--wire-format", "protobuf"],
        "grpc": ["--grpc", server.grpc],
    }


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Decode with one thread, as the server does: the number of threads changes the last bits of the pixels."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def generate(path: Path, *arguments: object) -> NDArray[np.uint8]:
    """Run the command `generate` and return the pixels of its file `path`."""
    status, output = invoke("generate", *REQUEST, "-o", path, *arguments)
    assert (status, output.startswith(f"wrote {path}")) == (0, True), output
    return pixels(path)


def parameters_in(path: Path) -> dict[str, Any]:
    with Image.open(path) as image:
        found: dict[str, Any] = json.loads(image.info[KEYWORD])
    return found


def test_generated_stream_is_the_start_of_another_image(embedded_server: Addresses, tmp_path: Path) -> None:
    start = tmp_path / "start.bin"
    assert (
        invoke("generate", "a sea", "--size", "64x64", "--steps", "2", "-o", start, "--server", embedded_server.http)[0]
        == 0
    )
    request = ["generate", PROMPT, "--latents", start, "--strength", "0.5", "--steps", "4", "-o"]
    written = []
    for name, options in client_options(embedded_server).items():
        path = tmp_path / f"{name}.png"
        status, output = invoke(*request, path, *options)
        assert status == 0, output
        assert pixels(path).shape == (64, 64, 3)
        assert parameters_in(path)["latents"] == f"sha256:{hashlib.sha256(start.read_bytes()).hexdigest()}"
        written.append(path.read_bytes())
    assert len(set(written)) == 1
    status, output = invoke(*request, tmp_path / "a.png", "--latents", tmp_path / "none.bin", *IN_PROCESS)
    assert (status, "--latents: cannot read" in output) == (2, True), (status, output)


def test_image_of_a_selected_scheduler_is_reproduced(embedded_server: Addresses, tmp_path: Path) -> None:
    for name, options in client_options(embedded_server).items():
        generate(tmp_path / f"{name}.png", "--scheduler", "euler", *options)
    files = [tmp_path / f"{name}.png" for name in client_options(embedded_server)]
    assert len({file.read_bytes() for file in files}) == 1
    assert parameters_in(files[0])["scheduler"] == "euler"
    result = invoke("reproduce", files[0], "--server", embedded_server.http)
    assert result == (0, f"equal: {files[0]}\n")


def test_image_of_a_weighted_prompt_is_reproduced(embedded_server: Addresses, tmp_path: Path) -> None:
    for name, options in client_options(embedded_server).items():
        generate(tmp_path / f"{name}.png", "--prompt-syntax", "compel", "--negative-prompt", "(fog)1.3", *options)
    files = [tmp_path / f"{name}.png" for name in client_options(embedded_server)]
    assert len({file.read_bytes() for file in files}) == 1
    assert parameters_in(files[0])["prompt_syntax"] == "compel"
    result = invoke("reproduce", files[0], "--server", embedded_server.http)
    assert result == (0, f"equal: {files[0]}\n")


def test_inpainted_image_is_reproduced_from_its_image_and_mask(embedded_server: Addresses, tmp_path: Path) -> None:
    image, mask, result = (tmp_path / name for name in ("image.png", "mask.png", "result.png"))
    image.write_bytes(sample_image(3))
    mask.write_bytes(sample_mask())
    inputs = ["--image", image, "--mask", mask]
    files = []
    for name, options in client_options(embedded_server).items():
        generate(tmp_path / f"{name}.png", *inputs, *options)
        files.append((tmp_path / f"{name}.png").read_bytes())
    assert len(set(files)) == 1
    result.write_bytes(files[0])
    assert parameters_in(result)["mask"] == f"sha256:{hashlib.sha256(mask.read_bytes()).hexdigest()}"
    server = ["--server", embedded_server.http]
    assert invoke("reproduce", result, *inputs, *server) == (0, f"equal: {result}\n")
    status, output = invoke("reproduce", result, "--image", image, *server)
    assert (status, "the hash of the recorded mask is sha256:" in output) == (2, True), output


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_all_clients_write_the_same_file(embedded_server: Addresses, pipeline: str, tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.png" for name in client_options(embedded_server)}
    for name, options in client_options(embedded_server).items():
        assert generate(files[name], "--pipeline", pipeline, *options).shape == (256, 256, 3)
    assert pixels(files["in process"]).std() > 20, "the image is not uniform"
    assert len({path.read_bytes() for path in files.values()}) == 1
    assert parameters_in(files["in process"]) | {"latent_map": "", "software": "", "device": "", "versions": ""} == {
        "model": "codec-diffusers/scenes",
        "prompt": PROMPT,
        "seed": 7,
        "steps": 2,
        "size": "256x256",
        "latent_space": "codec-diffusers/scenes-vae",
        "latent_map": "",
        "pipeline": pipeline,
        "software": "",
        "device": "",
        "versions": "",
    }
    # A stored stream decodes to the same pixels.
    capture, decoded = tmp_path / "a.bin", tmp_path / "decoded.png"
    assert invoke("generate", *REQUEST, "-o", capture, "--pipeline", pipeline, "--grpc", embedded_server.grpc)[0] == 0
    assert invoke("decode", capture, "-o", decoded)[0] == 0
    assert np.array_equal(pixels(decoded), pixels(files["in process"]))
    assert parameters_in(decoded)["pipeline"] == pipeline


@pytest.mark.parametrize(("suffix", "output_format"), [("png", "png"), ("jpg", "jpeg"), ("webp", "webp")])
def test_file_equals_the_image_that_the_server_renders(
    embedded_server: Addresses, suffix: str, output_format: str, tmp_path: Path
) -> None:
    body = json.dumps({"prompt": PROMPT, "output_format": output_format} | FIELDS).encode()
    request = urllib.request.Request(f"{embedded_server.http}/v1/images/generations", body, JSON)
    with urllib.request.urlopen(request, timeout=120) as response:
        rendered = base64.b64decode(json.load(response)["data"][0]["b64_json"])
    generate(tmp_path / f"a.{suffix}", "--grpc", embedded_server.grpc)
    assert (tmp_path / f"a.{suffix}").read_bytes() == rendered


def test_input_image_and_strength_affect_the_result(embedded_server: Addresses, tmp_path: Path) -> None:
    start = tmp_path / "start.png"
    original = generate(start, "--seed", "8", "--grpc", embedded_server.grpc)
    from_image = ["--image", start, "--steps", "4"]
    found = {}
    for name, options in client_options(embedded_server).items():
        for strength in ("0.25", "1"):
            found[name, strength] = generate(tmp_path / f"{name}.png", *from_image, "--strength", strength, *options)
        assert np.array_equal(found[name, "1"], found["in process", "1"]), name
        assert np.array_equal(found[name, "0.25"], found["in process", "0.25"]), name
    parameters = parameters_in(tmp_path / "in process.png")
    assert parameters["image"] == f"sha256:{hashlib.sha256(start.read_bytes()).hexdigest()}"
    assert parameters["strength"] == 1

    def distance(strength: str) -> float:
        return float(np.abs(found["in process", strength].astype(float) - original).mean())

    assert distance("0.25") < 0.8 * distance("1"), "a low strength stays close to the input image"
    status, output = invoke(
        "generate", PROMPT, "-o", tmp_path / "x.png", "--strength", "0.5", "--grpc", embedded_server.grpc
    )
    assert status == 2
    assert "strength: is not supported" in output


def test_json_report_describes_the_file_and_the_stream(embedded_server: Addresses, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for options in (["--grpc", embedded_server.grpc], ["--server", embedded_server.http], IN_PROCESS):
        status, output = invoke("generate", *REQUEST, "-o", path, "--pipeline", "int4", "--json", *options)
        report = json.loads(output)
        assert (status, report["output"], report["bytes"]) == (0, str(path), path.stat().st_size)
        assert (report["shape"], report["frames"], report["fps"]) == ([4, 32, 32], 1, None)
        assert report["parameters"] == parameters_in(path)
        # Compression makes the received body smaller than the stream; nothing is received in process.
        assert (report["received_bytes"] or 0) <= report["stream_bytes"] + 100
        assert (report["received_bytes"] is None) is (options is IN_PROCESS)
