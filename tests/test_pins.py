"""The pinned versions stand in one file, and every part takes them from there."""

import json
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from codec_wire.errors import InvalidSettings
from core import pins
from tests.support.commands import invoke

ROOT = Path(__file__).resolve().parent.parent


def test_three_libraries_are_pinned_exactly() -> None:
    assert set(pins.pinned_versions()) == {"torch", "diffusers", "transformers"}


def test_no_other_file_names_a_version_of_them() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert "-c core/pins.txt" in lines
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    server = project["tool"]["setuptools"]["dynamic"]["optional-dependencies"]["server"]["file"]
    assert server[0] == "core/pins.txt"
    named = re.compile(r"^\s*\"?(torch|diffusers|transformers)\s*[=<>~]", re.MULTILINE)
    for path in [ROOT / "constraints.txt", ROOT / "pyproject.toml", *(ROOT / "requirements").glob("*.txt")]:
        assert not named.search(path.read_text()), path


def test_what_is_installed_is_what_is_pinned() -> None:
    differences = "; ".join(pins.pin_differences())
    assert not differences, (
        f"{differences}. Whoever bumps a pin sets up afresh (make setup), builds the golden fixtures and measures the "
        "thresholds anew, and publishes the image by its new digest: docs/conformance.md, 'What a bump means'"
    )


def test_the_image_has_two_targets_over_the_same_stages_and_names_no_version() -> None:
    text = (ROOT / "Dockerfile").read_text()
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", text, re.MULTILINE)
    assert stages[-2:] == [("common", "golden"), ("common", "server")]
    assert ("base", "common") in stages
    assert ("dependencies", "builder") in stages
    assert not re.search(r"(torch|diffusers|transformers)\s*[=<>~]=", text)
    for target in ("golden", "server"):
        part = text.split(f"FROM common AS {target}\n")[1].partition("\nFROM ")[0]
        assert 'RUN ["python", "-m", "core.pins", "/opt/codec/pins.json"]' in part


def other_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch be another than the pinned one, as after a change of core/pins.txt alone."""
    pinned = pins.pinned_versions()
    monkeypatch.setattr(pins, "pinned_versions", lambda: pinned | {"torch": "99.0"})


def test_a_changed_pin_is_loud_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    other_torch(monkeypatch)
    with pytest.raises(InvalidSettings, match=r"torch 2.* where 99.0 is pinned. Install torch==99.0 ") as error:
        pins.require_pins()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("command", ["serve", "golden verify nowhere"])
def test_nothing_starts_on_other_versions_where_the_pins_are_required(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_torch(monkeypatch)
    monkeypatch.setenv("CODEC_REQUIRE_PINS", "1")
    status, output = invoke(*command.split(), "--model", "nowhere")
    assert status == 2
    assert output.startswith("error: CODEC_REQUIRE_PINS is set, and this is not the reference: torch ")


def test_a_pins_file_says_what_the_image_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["pins_file", str(tmp_path / "pins.json")])
    assert pins.main() == 0
    written = json.loads((tmp_path / "pins.json").read_text())
    assert written["pinned"] == pins.pinned_versions()
    assert set(written["installed"]) == set(written["pinned"])
    assert set(written["beside"]) >= {"numpy", "safetensors"}
    # No image is made of versions that are not the pinned ones.
    monkeypatch.setattr(pins, "pin_differences", lambda: ["torch 1 where 2 is pinned"])
    with pytest.raises(InvalidSettings):
        pins.main()


def test_a_difference_is_one_line_for_each_library(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    def other_version(name: str) -> str:
        if name == "transformers":
            raise metadata.PackageNotFoundError
        return {"torch": "2.0.0+cu130"}.get(name, pins.pinned_versions()[name])

    monkeypatch.setattr(metadata, "version", other_version)
    pins.installed_versions.cache_clear()
    request.addfinalizer(pins.installed_versions.cache_clear)
    wanted = pins.pinned_versions()
    assert pins.pin_differences() == [
        f"torch 2.0.0+cu130 where {wanted['torch']} is pinned",
        f"transformers is not installed where {wanted['transformers']} is pinned",
    ]
