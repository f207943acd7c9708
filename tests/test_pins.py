"""Pinned versions of torch, diffusers and transformers: their only source, and what CODEC_REQUIRE_PINS enforces."""

import json
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from codec_wire.errors import InvalidSettings
from core import pins
from tests.support.commands import invoke

ROOT = Path(__file__).resolve().parent.parent


def test_pins_are_the_exact_requirements_of_the_server_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    exact = dict(line.split("==") for line in project["optional-dependencies"]["server"] if "==" in line)
    assert set(exact) == {"torch", "diffusers", "transformers"}
    assert pins.pinned_versions() == exact


def test_pinned_libraries_have_a_version_in_no_other_place() -> None:
    named = re.compile(r"^\s*\"?(torch|diffusers|transformers)\s*[=<>~]", re.MULTILINE)
    assert not named.search((ROOT / "constraints.txt").read_text())
    assert len(named.findall((ROOT / "pyproject.toml").read_text())) == 3


def test_installed_versions_are_the_pinned_ones() -> None:
    differences = "; ".join(pins.pin_differences())
    assert not differences, (
        f"{differences}. After changing a pin: run make setup, build the golden fixtures, measure the thresholds again "
        "and publish the image under its new digest (docs/conformance.md)"
    )


def test_every_installed_package_supports_the_oldest_python() -> None:
    """constraints.txt is made from the installed versions, so one that needs a newer Python would fail `make setup`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (oldest,) = (rule.version for rule in SpecifierSet(project["requires-python"]) if rule.operator == ">=")
    rules = {package.name: package.metadata.json.get("requires_python", "") for package in metadata.distributions()}
    too_new = {name: rule for name, rule in rules.items() if f"{oldest}.0" not in SpecifierSet(str(rule))}
    assert too_new == {}, "limit their versions in pyproject.toml and run make constraints"


def test_dockerfile_targets_share_their_stages_and_contain_no_version() -> None:
    text = (ROOT / "Dockerfile").read_text()
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", text, re.MULTILINE)
    assert stages[-2:] == [("common", "golden"), ("common", "server")]
    assert ("base", "common") in stages
    assert ("dependencies", "builder") in stages
    assert not re.search(r"(torch|diffusers|transformers)\s*[=<>~]=", text)
    for target in ("golden", "server"):
        part = text.split(f"FROM common AS {target}\n")[1].partition("\nFROM ")[0]
        assert 'RUN ["python", "-m", "core.pins", "/opt/codec/pins.json"]' in part


def change_torch_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Change the pin of torch, as if it had been edited without installing the new version."""
    pinned = pins.pinned_versions()
    monkeypatch.setattr(pins, "pinned_versions", lambda: pinned | {"torch": "99.0"})


def test_version_other_than_the_pinned_one_raises_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    change_torch_pin(monkeypatch)
    with pytest.raises(InvalidSettings, match=r"torch 2.* is installed, 99.0 is pinned. Install torch==99.0 ") as error:
        pins.require_pins()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("command", ["serve", "golden verify nowhere"])
def test_commands_do_not_start_with_other_versions_if_pins_are_required(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_torch_pin(monkeypatch)
    monkeypatch.setenv("CODEC_REQUIRE_PINS", "1")
    status, output = invoke(*command.split(), "--model", "nowhere")
    assert status == 2
    assert output.startswith(
        "error: CODEC_REQUIRE_PINS is set, but the installed versions differ from the pinned versions: torch "
    )


def test_pins_file_contains_pinned_and_installed_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["pins_file", str(tmp_path / "pins.json")])
    assert pins.main() == 0
    document = json.loads((tmp_path / "pins.json").read_text())
    assert document["pinned"] == pins.pinned_versions()
    assert set(document["installed"]) == set(document["pinned"])
    assert set(document["others"]) >= {"numpy", "safetensors"}
    # It is not written, and the image build fails, if the versions differ.
    monkeypatch.setattr(pins, "pin_differences", lambda: ["torch 1 is installed, 2 is pinned"])
    with pytest.raises(InvalidSettings):
        pins.main()


def test_each_difference_is_one_message(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    def other_version(name: str) -> str:
        if name == "transformers":
            raise metadata.PackageNotFoundError
        return {"torch": "2.0.0+cu130"}.get(name, pins.pinned_versions()[name])

    monkeypatch.setattr(metadata, "version", other_version)
    pins.installed_versions.cache_clear()
    request.addfinalizer(pins.installed_versions.cache_clear)
    pinned = pins.pinned_versions()
    assert pins.pin_differences() == [
        f"torch 2.0.0+cu130 is installed, {pinned['torch']} is pinned",
        f"transformers is not installed, {pinned['transformers']} is pinned",
    ]
