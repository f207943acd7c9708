"""The processes of the benchmarks, which run without coverage.py."""

import pytest

from tests.support.processes import COVERAGE


@pytest.fixture(autouse=True)
def without_coverage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start processes as the benchmarks do: coverage.py would add 2 s to each start, and slow down what is measured."""
    for name in COVERAGE:
        monkeypatch.delenv(name, raising=False)
