"""The pinned versions stand in one file, and every part takes them from there."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from core import pins

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
    assert pins.pin_differences() == []


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
