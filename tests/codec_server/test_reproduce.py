"""The command `reproduce`, with real server processes and with a model in this process."""

import io
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from codec_pixels.parameters import KEYWORD
from codec_server.reproduction import latent_difference, parameter_differences, pixel_difference
from core.probe import sample_image
from tests.support.commands import invoke
from tests.support.processes import Addresses, start_server

REQUEST = ["a snowy mountain", "--steps", "3", "--size", "128x128", "--seed", "7"]
REQUEST_PARAMETERS = {"prompt": "x", "size": "64x48", "pipeline": "raw", "seed": 1, "steps": 2}


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CODEC_MODELS_DIR", str(tmp_path / "models"))


@pytest.mark.slow
def test_files_of_another_server_process_are_equal_and_another_thread_count_is_named(
    embedded_server: Addresses, tmp_path: Path
) -> None:
    stream, image, rendered = tmp_path / "a.bin", tmp_path / "a.png", tmp_path / "b.png"
    source = tmp_path / "source.png"
    source.write_bytes(sample_image(3))
    first = embedded_server
    assert invoke("generate", *REQUEST, "-o", stream, "--server", first.http, "--pipeline", "int8")[0] == 0
    assert invoke("generate", *REQUEST, "-o", image, "--grpc", first.grpc)[0] == 0
    from_image = ["--image", str(source), "--server", first.http]
    assert invoke("generate", *REQUEST, "-o", rendered, *from_image)[0] == 0
    parameters = json.loads((tmp_path / "a.bin.json").read_text())
    assert (parameters["prompt"], parameters["pipeline"], parameters["seed"]) == ("a snowy mountain", "int8", 7)
    assert parameters["device"] == "cpu fp32, 1 threads"
    assert "torch=" in parameters["versions"]
    with start_server() as restarted:
        for file, options in (
            (stream, ["--server", restarted.http]),
            (stream, ["--grpc", restarted.grpc]),
            (image, ["--server", restarted.http]),
            (rendered, ["--server", restarted.http, "--image", str(source)]),
        ):
            assert invoke("reproduce", file, *options) == (0, f"equal: {file}\n")
        status, output = invoke("reproduce", rendered, "--server", restarted.http)
        assert status == 2
        assert "the hash of the recorded input image is sha256:" in output
    status, output = invoke("reproduce", stream, "--threads", "2", "--json")
    report = json.loads(output)
    assert report["parameters"] == {"threads": [1, 2]}
    assert (status == 0, report["values"] is None) == (report["equal"], report["equal"])


@pytest.mark.slow
def test_model_in_this_process_reproduces_its_file_and_reports_a_changed_one_by_how_much(tmp_path: Path) -> None:
    image, stream = tmp_path / "a.png", tmp_path / "a.bin"
    for file in (image, stream):
        assert invoke("generate", *REQUEST, "-o", file, "--threads", "1", "--wire-format", "protobuf")[0] == 0
        assert invoke("reproduce", file, "--threads", "1") == (0, f"equal: {file}\n")
    with Image.open(image) as opened:
        pixels, text = np.asarray(opened).copy(), opened.info[KEYWORD]
    pixels[0, 0] ^= 1
    chunk = PngImagePlugin.PngInfo()
    chunk.add_itxt(KEYWORD, text)
    Image.fromarray(pixels).save(image, pnginfo=chunk)
    status, output = invoke("reproduce", image, "--threads", "1")
    assert status == 1
    assert output.startswith(f"different: {image}\n  3 of 49152 values differ, by at most 1, PSNR 90.3 dB\n")
    assert "no recorded parameter differs" in output
    path = tmp_path / "a.bin.json"
    path.write_text(path.read_text().replace('"seed": 7', '"seed": 8'))
    status, output = invoke("reproduce", stream, "--threads", "1")
    assert status == 1
    assert "of 1024 values differ" in output


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (None, "but this file does not exist"),
        ("[]", "are not a JSON object"),
        ("{", "are not a JSON object"),
        (json.dumps({"size": "64x48"}), "does not contain the request"),
        (json.dumps(REQUEST_PARAMETERS | {"size": "big"}), "size must be WIDTHxHEIGHT"),
        (json.dumps(REQUEST_PARAMETERS | {"control_image": "sha256:00"}), "generated from a control image"),
        (
            json.dumps(REQUEST_PARAMETERS | {"image": "sha256:00"}),
            "the hash of the recorded input image is sha256:00, but the hash of --image is missing",
        ),
    ],
)
def test_file_without_a_request_is_refused(parameters: str | None, message: str, tmp_path: Path) -> None:
    stream = tmp_path / "a.bin"
    stream.write_bytes(b"\x80")
    if parameters is not None:
        (tmp_path / "a.bin.json").write_text(parameters)
    status, output = invoke("reproduce", stream)
    assert status == 2, output
    assert message in output


def test_image_of_another_program_is_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    (tmp_path / "a.png").write_bytes(file.getvalue())
    status, output = invoke("reproduce", tmp_path / "a.png")
    assert status == 2
    assert "was not written by codec-diffusers" in output


def test_image_with_too_many_pixels_is_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    size = b"IHDR" + (100_000).to_bytes(4) * 2 + file.getvalue()[24:29]
    data = file.getvalue()[:12] + size + zlib.crc32(size).to_bytes(4) + file.getvalue()[33:]
    (tmp_path / "a.png").write_bytes(data)
    status, output = invoke("reproduce", tmp_path / "a.png")
    assert status == 2, output
    assert "exceeds limit" in output


def test_device_threads_and_versions_are_compared_one_by_one() -> None:
    before = {"device": "cpu fp32, 1 threads", "versions": "diffusers=1, torch=2.9", "seed": 7}
    now = {"device": "cuda:0 (H) bf16, 2 threads", "versions": "torch=2.10, diffusers=1", "seed": 7, "software": "x"}
    assert parameter_differences(before, now) == {
        "device": ("cpu fp32", "cuda:0 (H) bf16"),
        "threads": (1, 2),
        "torch": ("2.9", "2.10"),
        "software": (None, "x"),
    }
    assert parameter_differences(before, before) == {}


def test_values_of_another_shape_cannot_be_compared() -> None:
    assert latent_difference(np.zeros((1, 2)), np.zeros((2, 1))) is None
    assert pixel_difference(np.zeros((1, 2), np.uint8), np.zeros((2, 1), np.uint8)) is None
