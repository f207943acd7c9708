"""Distribution of the tests to the processes of pytest-xdist, by module.

The marker xdist_group has no effect: pytest-xdist 3.8 stores the group in an attribute that pytest 9.2 does not read.
"""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

SHARED = {"tests/engines/": "ray", "tests/codec_ray/test_serve_process": "ray", "tests/test_page": "page"}
"""Groups of modules that run in the same process, one after the other, by the beginning of their path: only one Ray
cluster and only one browser run at a time."""


def group_of(nodeid: str) -> str:
    """Return the name of the tests that run in the same process as the test `nodeid`: a group, or the module."""
    module = nodeid.partition("::")[0]
    return next((group for beginning, group in SHARED.items() if module.startswith(beginning)), module)


def new_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return a scheduler that sends all tests of a group to one process, in the order of `sort_tests`."""
    config.option.loadscopereorder = False
    return _GroupScheduling(config, log)


class _GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def sort_tests(tests: list[pytest.Item]) -> None:
    """Put the groups of several modules first, then modules with slow tests.

    A long group that started last would leave the other processes idle.
    """
    slow = {group_of(test.nodeid) for test in tests if test.get_closest_marker("slow")}

    def rank(test: pytest.Item) -> int:
        group = group_of(test.nodeid)
        return 0 if group in SHARED.values() else 1 if group in slow else 2

    tests.sort(key=rank)
