"""Golden fixtures come out the same twice, and what changes is named."""

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
from codec_golden.wire import FixtureStream, body_of
from codec_wire import WireFormat
from codec_wire.errors import InvalidSettings
from codec_wire.latents import LatentStreamHeader
from tests.support.commands import invoke
from tests.support.reference_model import FLAGS, LATENT_SPACE, SUITE, settings_for, shipped_bundle

SMALL = {"kind": "image", "resolution": 64, "seed": 1, "prompt": "a sea", "steps": 5}
SHAPE = (1, 4, 8, 8)


@pytest.fixture
def fixtures_file(tmp_path: Path) -> Path:
    path = tmp_path / "fixtures.json"
    path.write_text(json.dumps({"suite": "small", "fixtures": {"sea": SMALL, "other": SMALL | {"seed": 2}}}))
    return path


def test_a_fixture_is_built_and_comes_out_the_same_again(tmp_path: Path, fixtures_file: Path) -> None:
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
        places = (place / LATENT_SPACE / name / "manifest.json" for place in (folder, again))
        one, other = (json.loads(place.read_text()) for place in places)
        for key in ("input_latent_sha256", "pixels_sha256", "reference_sha256"):
            assert one[key] == other[key]
    assert invoke(*command, "--check") == (0, "sea  as it was\nother  as it was\n")


def test_check_names_what_moved_and_why(tmp_path: Path, fixtures_file: Path) -> None:
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
    assert lines[0] == "sea  MOVED: latents; largest difference 0 of 255"
    assert f"    image_digest: sha256:{'0' * 64} then, None now" in lines
    assert "    threads: 64 then, 1 now" in lines
    assert "other  as it was" in lines
    assert lines[-1].startswith("1 of 2 fixtures moved")
    # It wrote nothing.
    assert json.loads(path.read_text()) == manifest


def test_a_changed_environment_is_named(reference: ReferenceModel) -> None:
    before = reference.environment
    assert before.differences_to(before) == []
    now = before.model_copy(update={"threads": 2, "versions": before.versions | {"torch": "1.0"}})
    assert [line.partition(":")[0] for line in before.differences_to(now)] == ["versions", "threads"]


def test_an_image_digest_stands_in_the_manifest(tmp_path: Path, fixtures_file: Path) -> None:
    digest = f"example/image@sha256:{'a' * 64}"
    flags = ("--fixtures-file", fixtures_file, "--fixtures", "sea", "--image-digest", digest)
    assert invoke("golden", "build", tmp_path / "g", *FLAGS, *flags)[0] == 0
    (found,) = find_fixtures(tmp_path / "g", None)
    assert found.manifest.environment.image_digest == digest


def capture(folder: Path, ending: str, latents: np.ndarray[Any, Any], **header: object) -> None:
    fixture = read_suite(None).fixtures["256"]
    entry = shipped_bundle().latent_map.pipeline(str(header.get("pipeline", "raw")))
    assert entry is not None
    plan = FixtureStream.of(fixture, latents.shape[1:], shipped_bundle(), entry)
    if "latent_space_id" in header:
        fields = {name: getattr(plan.header, name) for name in LatentStreamHeader.__slots__}
        plan = FixtureStream(LatentStreamHeader(**(fields | header)), plan.keyframes)
    data = latents_to_bytes(latents) if ending == "bin" else body_of(plan, latents, WireFormat(ending))
    (folder / f"sea.{ending}").write_bytes(data)


@pytest.mark.parametrize("ending", ["bin", "msgpack", "protobuf"])
def test_captured_latents_are_taken_as_they_are(ending: str, tmp_path: Path, fixtures_file: Path) -> None:
    latents = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float16)
    capture(tmp_path, ending, latents)
    folder = tmp_path / "golden"
    status, output = invoke("golden", "build", folder, *FLAGS, "--fixtures-file", fixtures_file, "--latents", tmp_path)
    assert status == 0, output
    (golden,) = find_fixtures(folder, None)
    assert golden.manifest.latents_from == f"sea.{ending}"
    assert golden.manifest.times.sampling_s is None
    np.testing.assert_array_equal(golden.latents(), latents)


@pytest.mark.parametrize(
    ("ending", "shape", "header", "message"),
    [
        ("bin", (1, 4, 8, 9), {}, "latents of .* take 512 bytes, the file has 576"),
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
def test_a_capture_of_something_else_is_refused(
    ending: str, shape: tuple[int, ...], header: dict[str, object], message: str, tmp_path: Path
) -> None:
    capture(tmp_path, ending, np.ones(shape, np.float16), **header)
    with pytest.raises(InvalidSettings, match=message):
        read_capture(tmp_path, "sea", LATENT_SPACE, SHAPE)


def test_a_file_that_is_no_body_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sea.msgpack").write_bytes(b'{"error": {"message": "no"}}')
    with pytest.raises(InvalidSettings, match="is no msgpack body"):
        read_capture(tmp_path, "sea", LATENT_SPACE, SHAPE)


def test_a_capture_that_is_missing_is_said(tmp_path: Path, reference: ReferenceModel) -> None:
    builder = FixtureBuilder(reference, SUITE, tmp_path, tmp_path)
    with pytest.raises(InvalidSettings, match=r"holds no 256.bin"):
        builder.build("256", read_suite(None).fixtures["256"], lambda _d, _t: None)


def test_files_that_were_changed_are_noticed(tmp_path: Path, goldens: list[GoldenFixture]) -> None:
    (picture, _) = goldens
    changed = GoldenFixture(tmp_path, picture.manifest)
    changed.write(picture.latents(), picture.pixels())
    assert changed.pixels().shape == (1, 256, 256, 3)
    pixels = picture.pixels().copy()
    pixels[0, 0, 0, 0] ^= 1
    Image.fromarray(pixels[0]).save(tmp_path / "reference.png")
    with pytest.raises(InvalidSettings, match="are not those of manifest.json"):
        changed.pixels()
    data = (tmp_path / "latents.bin").read_bytes()
    (tmp_path / "latents.bin").write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(InvalidSettings, match="expected sha256:"):
        changed.latents()


def test_a_folder_without_fixtures_says_what_to_do(tmp_path: Path, golden_folder: Path) -> None:
    with pytest.raises(InvalidSettings, match="codec-diffusers golden build"):
        find_fixtures(tmp_path, None)
    with pytest.raises(InvalidSettings, match="has no '512'; it has 256, video-short"):
        find_fixtures(golden_folder, None, ["512"])


def test_pins_that_are_required_and_differ_refuse_to_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.pins.installed_versions", lambda: {"torch": "2.0.0"})
    status, output = invoke("golden", "build", tmp_path, *FLAGS, "--require-pins")
    assert status == 2
    assert "CODEC_REQUIRE_PINS is set, and this is not the reference: torch 2.0.0 where" in output
    assert settings_for(tmp_path).require_pins is False
