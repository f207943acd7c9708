"""The fixtures file: the published values, unsupported fixtures, and invalid files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from codec_golden.fixtures import read_suite
from codec_wire.errors import InvalidSettings
from codec_wire.latents import Modality
from core.model import ModelInfo

IMAGES_ALONE = ModelInfo(
    name="images",
    latent_space="images-vae",
    latent_channels=4,
    spatial_factor=8,
    size_multiple=8,
    default_size=(256, 256),
    modalities=(Modality.IMAGE,),
)


def test_default_suite_contains_the_published_fixtures() -> None:
    fixtures = read_suite(None).fixtures
    assert {name: (one.resolution, one.frames, one.steps) for name, one in fixtures.items()} == {
        "256": (256, 1, 25),
        "512": (512, 1, 25),
        "1024": (1024, 1, 30),
        "video-short": (128, 8, 10),
        "video-1s": (512, 24, 25),
        "video-5s": (512, 120, 25),
        "video-30s": (512, 720, 25),
    }
    assert {one.seed for one in fixtures.values()} == {42}
    assert {one.fps for one in fixtures.values()} == {None, 24}
    assert fixtures["512"].prompt == "a wide-angle photograph of a snowy mountain at dusk, soft alpenglow"


def test_unknown_keys_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "latent-fixtures.json"
    fixture = {"kind": "image", "resolution": 64, "latent_shape": [4, 8, 8], "seed": 1, "prompt": "sea", "steps": 2}
    path.write_text(json.dumps({"schema_version": "1", "notes": ["n"], "fixtures": {"64": fixture}}))
    assert read_suite(path).fixtures["64"].request.size == (64, 64)


def test_unsupported_fixtures_are_skipped_unless_named() -> None:
    suite = read_suite(None)
    selected, skipped = suite.supported_by(IMAGES_ALONE, None)
    assert list(selected) == ["256", "512", "1024"]
    assert len(skipped) == 4
    assert skipped[0].startswith("video-short is skipped: ")
    with pytest.raises(InvalidSettings, match="--fixtures video-1s: .* supports image-latents only"):
        suite.supported_by(IMAGES_ALONE, ["256", "video-1s"])
    with pytest.raises(InvalidSettings, match="'257' not found; the file contains 256, 512"):
        suite.supported_by(IMAGES_ALONE, ["257"])
    with pytest.raises(InvalidSettings, match="a multiple of 48, got 256"):
        suite.supported_by(replace(IMAGES_ALONE, size_multiple=48), ["256"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "Invalid JSON"),
        ('{"fixtures": {}}', "fixtures: "),
        ('{"fixtures": {"../x": {}}}', "fixtures"),
        ('{"fixtures": {"a": {"kind": "image", "resolution": 64, "seed": 1, "steps": 2}}}', "prompt: Field required"),
        (
            '{"fixtures": {"a": {"kind": "video", "resolution": 64, "seed": 1, "steps": 2, "prompt": "x"}}}',
            "a video must have both fps and frames",
        ),
    ],
)
def test_invalid_file_error_names_the_key(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "fixtures.json"
    path.write_text(content)
    with pytest.raises(InvalidSettings, match=message):
        read_suite(path)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="cannot read the fixtures file"):
        read_suite(tmp_path / "none.json")
