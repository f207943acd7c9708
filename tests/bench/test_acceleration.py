"""The measurement of the step caches on a tiny Flux, and the tables in docs/fast-mode.md."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.acceleration import (
    DOCUMENT,
    TINY_FLUX,
    Run,
    embedded_runs,
    replace_section,
    section_of,
    step_cache_runs,
)
from bench.tiny_transformer import write_tiny_flux
from core.diffusers_engine.step_cache import CACHE_DIT, STEP_CACHES
from core.switches import parse_switches


@pytest.mark.slow
def test_every_step_cache_runs_on_a_tiny_flux_and_its_distance_is_in_the_table(tmp_path: Path) -> None:
    write_tiny_flux(tmp_path, TINY_FLUX)
    (run,) = step_cache_runs(images=1, concurrent=0)
    table = run.measure(tmp_path / "out", tmp_path)
    available = [name for name in STEP_CACHES if name != CACHE_DIT or find_spec("cache_dit") is not None]
    assert ("Not available" in table) == (len(available) < len(STEP_CACHES))
    results = json.loads((tmp_path / "out" / "acceleration.json").read_text())["results"]
    assert [result["switches"] for result in results] == [[f"step_cache={name}"] for name in available]
    for result in results:
        assert f"| `{result['switches'][0]}` | " in table
        assert 0.5 < result["ssim"] <= 1
        assert result["moves_reference"]


@pytest.mark.parametrize(("name", "runs"), [("embedded", embedded_runs()), ("step-caches", step_cache_runs())])
def test_document_has_the_section_that_the_command_writes(name: str, runs: list[Run]) -> None:
    document = DOCUMENT.read_text()
    section = section_of(name, runs, ["table"] * len(runs), "machine")
    replaced = replace_section(document, name, section)
    assert section in replaced
    begin = document.index(f"<!-- begin bench.acceleration {name} -->")
    assert runs[0].command in document[begin:], "the table in the document was measured with this command"


def test_measured_sets_are_switches() -> None:
    for run in (*embedded_runs(), *step_cache_runs()):
        for text in run.arguments[run.arguments.index("--switches") + 1].split(","):
            assert parse_switches(text).names
