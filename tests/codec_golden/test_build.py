"""Building golden fixtures: reproducibility, `--check`, and captured latents."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codec_golden.build import FixtureBuilder
from codec_golden.captures import read_capture
from codec_golden.fixtures import read_suite
from codec_golden.reference import ReferenceModel
from codec_golden.storage import GoldenFixture, find_fixtures, latents_to_bytes, read_images
from codec_golden.wire import FixtureStream, encode_body
from codec_wire import WireFormat
from codec_wire.errors import InvalidSettings
from codec_wire.latents import LatentStreamHeader
from tests.support.commands import invoke
from tests.support.reference_model import FLAGS, LATENT_SPACE, SUITE, settings_for, shipped_bundle

pytestmark = pytest.mark.slow

SMALL = {"kind": "image", "resolution": 64, "seed": 1, "prompt": "a sea", "steps": 5}
SHAPE = (1, 4, 8, 8)


@pytest.fixture
def fixtures_file(tmp_path: Path) -> Path:
    path = tmp_path / "fixtures.json"
    path.write_text(json.dumps({"suite": "small", "fixtures": {"sea": SMALL, "other": SMALL | {"seed": 2}}}))
    return path


def test_build_is_reproducible(tmp_path: Path, fixtures_file: Path) -> None:
    folder = tmp_path / "golden"
    command = ("golden", "build", folder, *FLAGS, "--fixtures-file", fixtures_file)
    status, output = invoke(*command)
    assert status == 0, output
    sea = folder / LATENT_SPACE / "sea"
    manifest = json.loads((sea / "manifest.json").read_text())
    assert manifest["fixture"]["prompt"] == "a sea"
    assert manifest["suite"] == "small"
    assert manifest["latents_from"] == "generated"
    assert manifest["environment"]["threads"] == 1
    assert manifest["environment"]["pin_differences"] == []
    assert set(manifest["environment"]["versions"]) == {"torch", "diffusers", "transformers"}
    assert manifest["times"]["sampling_s"] > 0
    assert len((sea / "latents.bin").read_bytes()) == 2 * 4 * 8 * 8
    assert read_images([sea / "reference.png"]).shape == (1, 64, 64, 3)
    again = tmp_path / "again"
    invoke("golden", "build", again, *FLAGS, "--fixtures-file", fixtures_file)
    for name in ("sea", "other"):
        paths = (root / LATENT_SPACE / name / "manifest.json" for root in (folder, again))
        one, other = (json.loads(path.read_text()) for path in paths)
        for key in ("input_latent_sha256", "pixels_sha256", "reference_sha256"):
            assert one[key] == other[key]
    assert invoke(*command, "--check") == (0, "sea  unchanged\nother  unchanged\n")


def test_check_lists_changed_fixtures_and_environment(tmp_path: Path, fixtures_file: Path) -> None:
    folder = tmp_path / "golden"
    assert invoke("golden", "build", folder, *FLAGS, "--fixtures-file", fixtures_file)[0] == 0
    path = folder / LATENT_SPACE / "sea" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["environment"]["threads"] = 64
    manifest["environment"]["image_digest"] = f"sha256:{'0' * 64}"
    manifest["input_latent_sha256"] = f"sha256:{'1' * 64}"
    path.write_text(json.dumps(manifest))
    status, output = invoke("golden", "build", folder, *FLAGS, "--fixtures-file", fixtures_file, "--check")
    assert status == 1
    lines = output.splitlines()
    assert lines[0] == "sea  CHANGED: latents; largest difference 0 of 255"
    assert f"    image_digest: sha256:{'0' * 64} before, None now" in lines
    assert "    threads: 64 before, 1 now" in lines
    assert "other  unchanged" in lines
    assert lines[-1].startswith("1 of 2 fixtures changed")
    # --check does not write anything.
    assert json.loads(path.read_text()) == manifest


def test_environment_differences_name_the_fields(reference: ReferenceModel) -> None:
    before = reference.environment
    assert before.differences_to(before) == []
    now = before.model_copy(update={"threads": 2, "versions": before.versions | {"torch": "1.0"}})
    assert [line.partition(":")[0] for line in before.differences_to(now)] == ["versions", "threads"]


def test_manifest_contains_the_image_digest(tmp_path: Path, fixtures_file: Path) -> None:
    digest = f"example/image@sha256:{'a' * 64}"
    flags = ("--fixtures-file", fixtures_file, "--fixtures", "sea", "--image-digest", digest)
    assert invoke("golden", "build", tmp_path / "g", *FLAGS, *flags)[0] == 0
    (found,) = find_fixtures(tmp_path / "g", None)
    assert found.manifest.environment.image_digest == digest


def write_capture(folder: Path, suffix: str, latents: np.ndarray[Any, Any], **header: object) -> None:
    fixture = read_suite(None).fixtures["256"]
    entry = shipped_bundle().latent_map.pipeline(str(header.get("pipeline", "raw")))
    assert entry is not None
    stream = FixtureStream.of(fixture, latents.shape[1:], shipped_bundle(), entry)
    if "latent_space_id" in header:
        fields = {name: getattr(stream.header, name) for name in LatentStreamHeader.__slots__}
        stream = FixtureStream(LatentStreamHeader(**(fields | header)), stream.keyframes)
    data = latents_to_bytes(latents) if suffix == "bin" else encode_body(stream, latents, WireFormat(suffix))
    (folder / f"sea.{suffix}").write_bytes(data)


@pytest.mark.parametrize("suffix", ["bin", "msgpack", "protobuf"])
def test_captured_latents_are_used_unchanged(suffix: str, tmp_path: Path, fixtures_file: Path) -> None:
    latents = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float16)
    write_capture(tmp_path, suffix, latents)
    folder = tmp_path / "golden"
    status, output = invoke("golden", "build", folder, *FLAGS, "--fixtures-file", fixtures_file, "--latents", tmp_path)
    assert status == 0, output
    (golden,) = find_fixtures(folder, None)
    assert golden.manifest.latents_from == f"sea.{suffix}"
    assert golden.manifest.times.sampling_s is None
    np.testing.assert_array_equal(golden.latents(), latents)


@pytest.mark.parametrize(
    ("suffix", "shape", "header", "message"),
    [
        ("bin", (1, 4, 8, 9), {}, "latents of the shape .* have 512 bytes, got 576"),
        ("msgpack", (1, 4, 8, 9), {}, "the shape must be"),
        ("protobuf", SHAPE, {"pipeline": "int8-adaptive"}, "the pipeline must be raw, got int8-adaptive"),
        (
            "msgpack",
            SHAPE,
            {"latent_space_id": "other"},
            f"the latent space must be {LATENT_SPACE}, got other",
        ),
    ],
)
def test_mismatched_capture_is_rejected(
    suffix: str, shape: tuple[int, ...], header: dict[str, object], message: str, tmp_path: Path
) -> None:
    write_capture(tmp_path, suffix, np.ones(shape, np.float16), **header)
    with pytest.raises(InvalidSettings, match=message):
        read_capture(tmp_path, "sea", LATENT_SPACE, SHAPE)


def test_capture_with_invalid_body_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "sea.msgpack").write_bytes(b'{"error": {"message": "no"}}')
    with pytest.raises(InvalidSettings, match="is not a valid msgpack body"):
        read_capture(tmp_path, "sea", LATENT_SPACE, SHAPE)


def test_missing_capture_is_an_error(tmp_path: Path, reference: ReferenceModel) -> None:
    builder = FixtureBuilder(reference, SUITE, tmp_path, tmp_path)
    with pytest.raises(InvalidSettings, match=r"has no 256\.bin, 256\.msgpack or 256\.protobuf"):
        builder.build("256", read_suite(None).fixtures["256"], lambda _d, _t: None)


def test_modified_files_are_detected(tmp_path: Path, goldens: list[GoldenFixture]) -> None:
    image, _ = goldens
    changed = GoldenFixture(tmp_path, image.manifest)
    changed.write(image.latents(), image.pixels())
    assert changed.pixels().shape == (1, 256, 256, 3)
    pixels = image.pixels().copy()
    pixels[0, 0, 0, 0] ^= 1
    Image.fromarray(pixels[0]).save(tmp_path / "reference.png")
    with pytest.raises(InvalidSettings, match="do not match manifest.json"):
        changed.pixels()
    data = (tmp_path / "latents.bin").read_bytes()
    (tmp_path / "latents.bin").write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(InvalidSettings, match="expected sha256:"):
        changed.latents()


def test_missing_fixtures_errors_name_the_remedy(tmp_path: Path, golden_folder: Path) -> None:
    with pytest.raises(InvalidSettings, match="codec-diffusers golden build"):
        find_fixtures(tmp_path, None)
    with pytest.raises(InvalidSettings, match="'512' not found; .* contains 256, video-short"):
        find_fixtures(golden_folder, None, ["512"])


def test_unknown_fixture_is_reported_before_a_model_is_loaded(tmp_path: Path, fixtures_file: Path) -> None:
    flags = ("--fixtures-file", fixtures_file, "--fixtures", "lake", "--pipeline", "not_installed:load")
    status, output = invoke("golden", "build", tmp_path / "golden", *flags)
    assert status == 2
    assert "--fixtures: 'lake' not found; the file contains sea, other" in output
    assert "not_installed" not in output


def test_build_fails_if_required_pins_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.pins.installed_versions", lambda: {"torch": "2.0.0"})
    status, output = invoke("golden", "build", tmp_path, *FLAGS, "--require-pins")
    assert status == 2
    assert (
        "CODEC_REQUIRE_PINS is set, but the installed versions differ from the pinned versions: torch 2.0.0 is"
        in output
    )
    assert settings_for(tmp_path).require_pins is False
