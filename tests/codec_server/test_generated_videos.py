"""Videos written by `generate`: the same file in process and over both protocols, with embedded parameters."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from codec_client import LatentStreamDecoder
from core.probe import sample_image
from tests.support.commands import invoke
from tests.support.families.videos import build_animatediff, build_svd
from tests.support.ffmpeg import read_comment, read_frames
from tests.support.processes import Addresses, start_server

pytestmark = pytest.mark.slow

REQUEST = ["waves", "--frames", "6", "--fps", "5", "--size", "64x48", "--steps", "2", "--seed", "3"]
EXIF_DESCRIPTION = 0x010E


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    build_animatediff().save_pretrained(folder / "moving")
    build_svd().save_pretrained(folder / "svd")
    return folder


def server_of(models_dir: Path, model: str) -> Iterator[Addresses]:
    arguments = ("--model", model, "--models-dir", str(models_dir), "--calibration-images", "0")
    with start_server(*arguments) as addresses:
        yield addresses


@pytest.fixture(scope="module")
def moving(models_dir: Path) -> Iterator[Addresses]:
    yield from server_of(models_dir, "moving")


@pytest.fixture(scope="module")
def svd(models_dir: Path) -> Iterator[Addresses]:
    yield from server_of(models_dir, "svd")


@pytest.fixture(autouse=True)
def environment(command_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def client_options(server: Addresses, model: str) -> dict[str, list[str]]:
    return {
        "in process": ["--model", model, "--threads", "1"],
        "http": ["--server", server.http],
        "protobuf": ["--server", server.http, "--wire-format", "protobuf"],
        "grpc": ["--grpc", server.grpc],
    }


def generate(path: Path, *arguments: object) -> Path:
    status, output = invoke("generate", *arguments, "-o", path)
    assert status == 0, output
    return path


def frames_of(path: Path) -> NDArray[np.uint8]:
    if path.suffix == ".mp4":
        return read_frames(path, 64, 48)
    with Image.open(path) as image:
        return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)])


def parameters_in(path: Path) -> dict[str, Any]:
    if path.suffix == ".mp4":
        return read_comment(path)
    with Image.open(path) as image:
        text = image.info["comment"].decode() if path.suffix == ".gif" else image.getexif()[EXIF_DESCRIPTION]
    parameters: dict[str, Any] = json.loads(text)
    return parameters


@pytest.mark.parametrize("pipeline", ["raw", "delta+int8", "int4-adaptive"])
def test_all_clients_write_the_same_video(moving: Addresses, pipeline: str, tmp_path: Path) -> None:
    files = {
        name: generate(tmp_path / f"{name}.mp4", *REQUEST, "--pipeline", pipeline, *options)
        for name, options in client_options(moving, "moving").items()
    }
    assert len({path.read_bytes() for path in files.values()}) == 1
    frames = frames_of(files["in process"])
    assert frames.shape == (6, 48, 64, 3)
    assert np.abs(np.diff(frames.astype(int), axis=0)).max() > 0, "the frames differ"


@pytest.mark.parametrize("suffix", ["mp4", "gif", "webp"])
def test_parameters_are_embedded_in_the_video(moving: Addresses, suffix: str, tmp_path: Path) -> None:
    arguments = ["--pipeline", "delta+int8", *(["--video"] if suffix == "webp" else [])]
    path = generate(tmp_path / f"a.{suffix}", *REQUEST, *arguments, "--grpc", moving.grpc)
    parameters = parameters_in(path)
    assert parameters | {"latent_map": "", "software": "", "device": "", "versions": "", "latent_space": ""} == {
        "model": "moving",
        "prompt": "waves",
        "seed": 3,
        "steps": 2,
        "size": "64x48",
        "fps": 5,
        "frames": 6,
        "latent_space": "",
        "latent_map": "",
        "pipeline": "delta+int8",
        "software": "",
        "device": "",
        "versions": "",
    }
    assert len(frames_of(path)) == 6


def test_stored_stream_decodes_to_the_same_video(moving: Addresses, tmp_path: Path) -> None:
    expected = generate(tmp_path / "a.gif", *REQUEST, "--pipeline", "delta+int8", "--server", moving.http)
    capture = generate(tmp_path / "a.bin", *REQUEST, "--video", "--pipeline", "delta+int8", "--grpc", moving.grpc)
    assert invoke("decode", capture, "-o", tmp_path / "b.gif", "--server", moving.http)[0] == 0
    assert np.array_equal(frames_of(tmp_path / "b.gif"), frames_of(expected))
    decoder = LatentStreamDecoder()
    assert len(list(decoder.feed(capture.read_bytes()))) == 6
    decoder.close()
    status, output = invoke("decode", capture, "-o", tmp_path / "b.png", "--server", moving.http)
    assert (status, "a .png file holds one image" in output) == (2, True)


def test_all_clients_generate_the_same_video_from_an_image(svd: Addresses, tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(sample_image(1))
    request = ["x", "--image", image, "--frames", "3", "--size", "64x64", "--steps", "1"]
    files = {
        name: generate(tmp_path / f"{name}.mp4", *request, *options)
        for name, options in client_options(svd, "svd").items()
    }
    assert len({path.read_bytes() for path in files.values()}) == 1
    parameters = parameters_in(files["in process"])
    assert parameters["image"] == f"sha256:{hashlib.sha256(image.read_bytes()).hexdigest()}"
    assert "strength" not in parameters


def test_video_is_not_written_to_an_image_file(tmp_path: Path) -> None:
    status, output = invoke("generate", "a sea", "-o", tmp_path / "a.png", "--video", "--grpc", "127.0.0.1:1")
    assert (status, "use .mp4, .gif or .webp" in output) == (2, True)
