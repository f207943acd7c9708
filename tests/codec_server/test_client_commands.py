"""generate, decode, inspect and doctor as a user runs them: what they write, what they say, how they fail."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from codec_server.cli import app
from codec_wire import WireFormat, encode
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loading import LoadedModel
from core.maps.store import bundle_folder
from tests.codec_client.test_stream_decoder import BODY, FIRST, FRAMES, HEADER
from tests.support.background import background_servers
from tests.support.fake_engine import FakeEngine
from tests.support.noise_engine import NoiseEngine
from tests.support.serving import VIDEO_MODEL, Servers
from tests.support.standin import build, build_bundle

ROOT = Path(__file__).resolve().parents[2]
REQUEST = ["a snowy mountain", "--steps", "3", "--size", "64x48", "--seed", "7"]


def invoke(*arguments: object, stdin: bytes | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin, env={"COLUMNS": "200"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def fails(status: int, *arguments: object) -> str:
    """Return the one or two lines that a command fails with."""
    found, output = invoke(*arguments)
    assert found == status, output
    assert output.startswith("error: ")
    assert output.count("\n") <= 2, output
    return output


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    build(folder, "standin-vae")
    return folder


@pytest.fixture(autouse=True)
def environment(models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEC_MODELS_DIR", str(models_dir))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def servers(engine: DiffusersEngine, standin: LoadedModel) -> Iterator[Servers]:
    from dataclasses import replace

    info = replace(standin.info, name="standin", latent_space="standin-vae")
    with background_servers(engine, info, bundle=build_bundle("standin-vae")) as (found, _):
        yield found


def http_address(servers: Servers) -> str:
    return str(servers.http._base_url)


@pytest.mark.parametrize("pipeline", ["raw", "int8"])
def test_in_process_http_and_grpc_write_the_same_pixels(servers: Servers, tmp_path: Path, pipeline: str) -> None:
    ways = {
        "here": ["--model", "standin", "--threads", "1"],
        "http": ["--server", http_address(servers)],
        "protobuf": ["--server", http_address(servers), "--wire-format", "protobuf"],
        "grpc": ["--grpc", servers.grpc_address],
    }
    pictures = {}
    for name, way in ways.items():
        path = tmp_path / f"{name}.png"
        status, output = invoke("generate", *REQUEST, "-o", path, "--pipeline", pipeline, *way)
        assert (status, output.startswith(f"wrote {path}")) == (0, True), output
        pictures[name] = np.asarray(Image.open(path))
    assert pictures["here"].shape == (48, 64, 3)
    assert pictures["here"].std() > 5
    for name in ways:
        assert np.array_equal(pictures[name], pictures["here"]), name


def test_a_factorys_own_vae_draws_its_pictures(servers: Servers, tmp_path: Path) -> None:
    factory = ["--factory", "tests.support.standin:build_pipeline", "--latent-space", "x/y", "--threads", "1"]
    assert invoke("generate", *REQUEST, "-o", tmp_path / "a.png", *factory)[0] == 0
    assert invoke("generate", *REQUEST, "-o", tmp_path / "b.png", "--grpc", servers.grpc_address)[0] == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), np.asarray(Image.open(tmp_path / "b.png")))


def test_a_capture_decodes_to_the_picture_that_generate_writes(servers: Servers, tmp_path: Path) -> None:
    way = ["--server", http_address(servers), "--pipeline", "int8"]
    capture, direct, decoded = tmp_path / "a.bin", tmp_path / "a.png", tmp_path / "b.png"
    status, output = invoke("generate", *REQUEST, "-o", capture, "--json", *way)
    report = json.loads(output)
    assert (status, report["pipeline"], report["frames"]) == (0, "int8", 1)
    assert capture.stat().st_size == report["bytes"] == report["stream_bytes"]
    assert invoke("generate", *REQUEST, "-o", direct, *way)[0] == 0
    bundle = bundle_folder(Path(os.environ["CODEC_MODELS_DIR"]), "standin-vae")
    for source in ([], ["--server", http_address(servers)], ["--bundle", bundle]):
        assert invoke("decode", capture, "-o", decoded, *source)[0] == 0
        assert np.array_equal(np.asarray(Image.open(decoded)), np.asarray(Image.open(direct)))
    zipped = tmp_path / "a.bin.gz"
    zipped.write_bytes(gzip.compress(capture.read_bytes()))
    assert invoke("decode", zipped, "-o", decoded)[0] == 0


@pytest.mark.parametrize("suffix", ["mp4", "gif", "webp"])
def test_a_video_is_written_with_its_frames_and_rate(suffix: str, tmp_path: Path, models_dir: Path) -> None:
    path = tmp_path / f"waves.{suffix}"
    request = ["waves", "--video", "--frames", "6", "--fps", "5", "--size", "64x48", "--pipeline", "delta+int8"]
    with background_servers(NoiseEngine(), VIDEO_MODEL) as (servers, _):
        decoder = ["--decoder", models_dir / "standin"]
        status, output = invoke("generate", *request, "-o", path, "--server", http_address(servers), *decoder)
        assert status == 0, output
        assert "a png holds one picture" in fails(2, "generate", *request, "-o", tmp_path / "a.png", *decoder)
    if suffix == "mp4":
        import imageio_ffmpeg

        count, seconds = imageio_ffmpeg.count_frames_and_secs(str(path))
        assert (count, seconds) == (6, pytest.approx(1.2))
        assert path.read_bytes()[4:8] == b"ftyp"
    else:
        with Image.open(path) as image:
            assert (getattr(image, "n_frames", 1), image.size) == (6, (64, 48))
            image.load()  # of webp the rate is known once a frame was read
            assert image.info["duration"] == 200


def test_what_cannot_be_is_one_line(servers: Servers, tmp_path: Path) -> None:
    here, server = tmp_path / "a.png", ["--server", http_address(servers)]
    assert "no server answers at http://127.0.0.1:1: Connection refused" in fails(
        3, "generate", "x", "-o", here, "--server", "http://127.0.0.1:1"
    )
    assert "no server answers at 127.0.0.1:1: Connection refused" in fails(
        3, "generate", "x", "-o", here, "--grpc", "127.0.0.1:1"
    )
    assert "prompt: must have at least 1 character" in fails(2, "generate", "", "-o", here, *server)
    assert "steps: must be at most" in fails(2, "generate", "x", "--steps", 9999, "-o", here, *server)
    assert "size: must be" in fails(2, "generate", "x", "--size", "big", "-o", here, *server)
    assert "this server runs standin" in fails(2, "generate", "x", "--model", "other", "-o", here, *server)
    assert "no folder" in fails(2, "generate", "x", "-o", tmp_path / "no" / "a.png", *server)
    assert "ends in none of them" in fails(2, "generate", "x", "-o", tmp_path / "a.tiff", *server)
    (tmp_path / "folder.png").mkdir()
    assert "not writable" in fails(2, "generate", "x", "-o", tmp_path / "folder.png", *server)
    assert "--server or --grpc, got both" in fails(2, "generate", "x", "-o", here, *server, "--grpc", "x:1")
    assert "there is no directory 'missing'" in fails(1, "generate", "x", "-o", here, "--model", "missing")
    assert "cannot read" in fails(2, "generate", "x", "-o", here, "--image", tmp_path / "no.png", *server)
    assert "cannot read" in fails(2, "decode", tmp_path / "no.bin", "-o", here)
    assert not here.exists()


def test_inspect_says_what_a_stream_holds(tmp_path: Path) -> None:
    capture = tmp_path / "a.bin"
    capture.write_bytes(BODY)
    status, output = invoke("inspect", capture)
    assert status == 0
    for part in ("msgpack, identity", "latent_space_id  a/b", "frames    2: 8 bytes", "sound"):
        assert part in output
    status, output = invoke("inspect", capture, "--json")
    assert (status, json.loads(output)["frame_count"], json.loads(output)["sound"]) == (0, 2, True)


MSGPACK = WireFormat.MSGPACK


@pytest.mark.parametrize(
    ("data", "byte", "says"),
    [
        (BODY[:-3], FIRST + len(encode(FRAMES[0], MSGPACK)), "ends within a message"),
        (BODY[:FIRST], FIRST, "without a frame that is done"),
        (b"", 0, "without a header|empty"),
        (encode(HEADER, MSGPACK) + encode(FRAMES[1], MSGPACK) + encode(FRAMES[0], MSGPACK), FIRST, "expected frame 0"),
        (BODY + b"x", len(BODY), "after the last frame"),
        (BODY[:9] + b"\xff" + BODY[10:], 0, "WRONG"),
        (gzip.compress(BODY)[:-9], 0, "gzip"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), 0, "a PNG picture"),
        (b'{"error": {"message": "no"}}', 0, "an error that a server answered"),
        (b"PK\x03\x04" + bytes(50), 0, "zip archive"),
        (b"hello, this is text", 0, "WRONG"),
        (bytes(100), 0, "WRONG"),
        (os.urandom(10) * 7, 0, "WRONG"),
    ],
)
def test_inspect_says_what_is_wrong_and_where(data: bytes, byte: int, says: str, tmp_path: Path) -> None:
    capture = tmp_path / "a.bin"
    capture.write_bytes(data)
    status, output = invoke("inspect", capture)
    assert status == 4, output
    assert re.search(says, output), output
    assert re.search(r"WRONG     at byte \d+: ", output), output
    if byte:
        assert f"at byte {byte}:" in output
    status, output = invoke("inspect", capture, "--json")
    assert (status, json.loads(output)["sound"]) == (4, False)


@settings(max_examples=60)
@given(st.binary(max_size=200), st.booleans())
def test_inspect_never_fails_otherwise(noise: bytes, begins_well: bool) -> None:
    path = Path(os.environ["XDG_CACHE_HOME"] + ".bin")
    path.write_bytes(BODY[: len(noise)] + noise if begins_well else noise)
    status, _ = invoke("inspect", path, "--json")
    assert status == 4


def test_doctor_generates_for_real(tmp_path: Path) -> None:
    status, output = invoke("doctor", "--model", "standin", "--threads", "1", "--port", "0", "--grpc-port", "0")
    assert status == 0, output
    assert re.search(r"ok +generation +64x64, 4 steps", output)
    status, output = invoke("doctor", "--model", "missing", "--json")
    findings = {finding["what"]: finding for finding in json.loads(output)}
    assert (status, findings["model"]["state"]) == (1, "bad")


@pytest.mark.parametrize("command", ["generate", "decode", "inspect", "doctor"])
def test_help_has_an_example_and_the_exit_status(command: str) -> None:
    status, output = invoke(command, "--help")
    assert status == 0
    assert "Example" in output
    assert "Exit status: 0 done" in output


def start(*arguments: object, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "codec_server.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | environment,
    )


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_ctrl_c_cancels_the_remote_job(protocol: str, tmp_path: Path) -> None:
    engine = FakeEngine()
    with background_servers(engine) as (servers, loop):
        way = ["--grpc", servers.grpc_address] if protocol == "grpc" else ["--server", http_address(servers)]
        with start("generate", "a sea", "-o", tmp_path / "a.png", *way) as process:
            end = time.monotonic() + 120
            while not engine.started and time.monotonic() < end:
                time.sleep(0.05)
            assert engine.started
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        loop.run(engine.until_closed(1))
        assert (process.returncode, out, err) == (130, b"", b"interrupted\n")
        assert engine.finished == 0
        assert not (tmp_path / "a.png").exists()
        loop.run(servers.service.admission.idle())


LOUD = """
import sys
from tests.support.standin import build_pipeline

def make():
    pipeline = build_pipeline()
    calls = []
    def said(*_):
        calls.append(1)
        if len(calls) == 9:
            print("sampling", flush=True)
    pipeline.unet.register_forward_pre_hook(said)
    return pipeline
"""


def test_ctrl_c_stops_a_generation_in_process(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    arguments = ["--factory", "loud:make", "--steps", "250", "--size", "512x512", "--threads", "1"]
    with start("generate", "a sea", "-o", tmp_path / "a.png", *arguments, PYTHONPATH=path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"sampling\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (130, b"interrupted\n")


def test_bytes_go_through_a_pipe_and_a_reader_that_leaves_is_one_line() -> None:
    with background_servers(NoiseEngine()) as (servers, _):
        arguments = ["generate", "a sea", "-o", "-", "--size", "1024x1024", "--server", http_address(servers)]
        with start(*arguments) as made:
            assert made.stdout is not None
            body = made.stdout.read()
        assert made.returncode == 0
        piped = subprocess.run(
            [sys.executable, "-m", "codec_server.cli", "inspect", "-", "--json"],
            input=body,
            capture_output=True,
            cwd=ROOT,
            check=False,
        )
        assert (piped.returncode, json.loads(piped.stdout)["received_bytes"]) == (0, len(body))
        with start(*arguments) as left:
            assert left.stdout is not None
            left.stdout.close()
            assert left.stderr is not None
            assert left.stderr.read() == b"error: whoever read the output has left\n"
        assert left.returncode == 2
