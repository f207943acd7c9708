"""The commands `encode` and `decode --on-server`: their files, and the rules of their options."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec_client import HttpClient, LatentStreamDecoder
from codec_pixels.device_thread import DeviceThread
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.vae_engine import DiffusersVae
from core.probe import sample_image
from tests.support.background import background_servers
from tests.support.commands import invoke
from tests.support.fake_engine import FakeEngine
from tests.support.latent_streams import body_of, random_stream
from tests.support.serving import Servers, http_address
from tests.support.tiny_sd import build_bundle, save_model_and_map

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def servers(tiny_model: LoadedModel, device_thread: DeviceThread) -> Iterator[Servers]:
    info = replace(tiny_model.info, name="tiny-sd", latent_space="tiny-sd-vae")
    vae = DiffusersVae(tiny_model, device_thread)
    engine = DiffusersEngine(tiny_model, device_thread)
    with background_servers(engine, info, bundle=build_bundle("tiny-sd-vae"), vae=vae) as (found, _):
        yield found


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CODEC_MODELS_DIR", str(tmp_path))  # without models and maps


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(sample_image(3))
    return path


def test_encoded_file_decodes_on_the_server_without_a_local_map_or_vae(
    servers: Servers, photo: Path, tmp_path: Path
) -> None:
    server = ["--server", http_address(servers)]
    streams = []
    for number, target in enumerate((server, ["--grpc", servers.grpc_address])):
        stream = tmp_path / f"{number}.bin"
        status, output = invoke("encode", photo, "-o", stream, "--pipeline", "int8", "--size", "64x48", *target)
        assert (status, output) == (0, f"wrote {stream}, {stream.stat().st_size} bytes\n")
        streams.append(stream.read_bytes())
    assert streams[0] == streams[1]
    for name in ("a.png", "a.jpg", "a.webp"):
        status, output = invoke("decode", stream, "-o", tmp_path / name, *server, "--on-server")
        assert status == 0, output
    with HttpClient(http_address(servers), cache_dir=tmp_path).blocking() as client:
        assert (tmp_path / "a.png").read_bytes() == client.decode_to_file(streams[0], "png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (64, 48)


def test_video_is_decoded_on_the_server_to_every_format(servers: Servers, tmp_path: Path) -> None:
    capture, server = tmp_path / "v.bin", ["--server", http_address(servers), "--on-server"]
    capture.write_bytes(body_of(random_stream("delta+int8", 3, latent_space="tiny-sd-vae")))
    for name in ("v.mp4", "v.gif", "v.webp"):
        status, output = invoke("decode", capture, "-o", tmp_path / name, *server)
        assert status == 0, output
    assert (tmp_path / "v.mp4").read_bytes()[4:8] == b"ftyp"
    for name in ("v.gif", "v.webp"):
        with Image.open(tmp_path / name) as animation:
            assert animation.n_frames == 3  # type: ignore[attr-defined]
    status, output = invoke("decode", capture, "-o", tmp_path / "v.png", *server)
    assert status == 2
    assert "a .png file holds one image" in output


def test_model_in_this_process_encodes_like_the_server(servers: Servers, photo: Path, tmp_path: Path) -> None:
    factory = ["--factory", "tests.support.tiny_sd:build_pipeline", "--latent-space", "tiny-sd-vae", "--threads", "1"]
    options = ["--size", "64x48", "--wire-format", "protobuf"]
    status, output = invoke("encode", photo, "-o", tmp_path / "a.bin", *options, *factory)
    assert status == 0, output
    assert invoke("encode", photo, "-o", tmp_path / "b.bin", *options, "--grpc", servers.grpc_address)[0] == 0
    decoded = []
    for name in ("a.bin", "b.bin"):
        decoder = LatentStreamDecoder("protobuf")
        decoded.append(list(decoder.feed((tmp_path / name).read_bytes())))
        decoder.close()
    assert np.array_equal(decoded[0], decoded[1])


def test_invalid_usage_fails_with_one_line_and_its_exit_status(servers: Servers, photo: Path, tmp_path: Path) -> None:
    server, output_file = ["--server", http_address(servers)], tmp_path / "a.bin"
    stream = tmp_path / "s.bin"
    stream.write_bytes(body_of(random_stream(latent_space="tiny-sd-vae")))
    (tmp_path / "text.txt").write_bytes(b"hello")
    for expected, message, arguments in [
        (2, "--on-server needs --server", ["decode", stream, "-o", tmp_path / "a.png", "--on-server"]),
        (
            2,
            "cannot be combined with --decoder",
            ["decode", stream, "-o", tmp_path / "a.png", *server, "--on-server", "--decoder", tmp_path],
        ),
        (2, "cannot read", ["encode", tmp_path / "missing.png", "-o", output_file, *server]),
        (2, "file: must be", ["encode", tmp_path / "text.txt", "-o", output_file, *server]),
        (2, "pipeline: ", ["encode", photo, "-o", output_file, "--pipeline", "zip", *server]),
        (2, "size: must be WIDTHxHEIGHT", ["encode", photo, "-o", output_file, "--size", "big", *server]),
        (3, "cannot connect", ["encode", photo, "-o", output_file, "--server", "http://127.0.0.1:1"]),
    ]:
        status, output = invoke(*arguments)
        assert (status, message in output, output.count("\n")) == (expected, True, 1), output
    assert not output_file.exists()


def test_decode_without_on_server_uses_only_the_map_of_the_server(tiny_model: LoadedModel, tmp_path: Path) -> None:
    save_model_and_map(tmp_path, "tiny-sd-vae")
    stream = tmp_path / "s.bin"
    stream.write_bytes(body_of(random_stream(latent_space="tiny-sd-vae")))
    info = replace(tiny_model.info, latent_space="tiny-sd-vae")
    with background_servers(FakeEngine(), info, bundle=build_bundle("tiny-sd-vae")) as (without_vae, _):
        server = ["--server", http_address(without_vae)]
        assert invoke("decode", stream, "-o", tmp_path / "a.png", *server)[0] == 0
        status, output = invoke("decode", stream, "-o", tmp_path / "b.png", *server, "--on-server")
    assert status == 2
    assert "this server cannot decode" in output
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (64, 48)
