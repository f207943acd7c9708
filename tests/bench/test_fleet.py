"""The simulation of many replicas agrees with formulas, and the limits of a front with its costs."""

import random

import pytest

from bench.fleet import MIXES, Front, Mix, fronts, limits, measured
from bench.fleet_simulation import Fleet, simulate


def one_second(_: random.Random) -> float:
    return 1.0


def test_mean_wait_of_one_replica_is_that_of_the_pollaczek_khinchine_formula() -> None:
    result = simulate(Fleet(1, 0.5, "round robin", max_jobs=1000), one_second, 1.0)
    assert sum(result.waits_s) / len(result.waits_s) == pytest.approx(0.5 / (2 * (1 - 0.5)), rel=0.05)
    assert result.active == pytest.approx(0.5 * 1.5, rel=0.05)


def test_replica_refuses_more_than_its_jobs() -> None:
    result = simulate(Fleet(2, 0.9, "fewest of two", max_jobs=1), one_second, 1.0, requests=2000)
    assert result.waits_s[-1] == 0
    assert result.refusals > result.lost > 0


def test_fewest_of_all_waits_less_than_others_and_less_with_one_front() -> None:
    mix = MIXES[-1]

    def tail(fleet: Fleet) -> float:
        return simulate(fleet, mix.durations(), mix.mean_s, requests=20_000).percentile(95)

    best = tail(Fleet(200, 0.8, "fewest of all"))
    assert best == tail(Fleet(200, 0.8, "fewest of all"))  # the seed is fixed
    assert best < tail(Fleet(200, 0.8, "fewest of all", fronts=8)) < tail(Fleet(200, 0.8, "round robin"))
    assert best < tail(Fleet(200, 0.8, "fewest of two"))


def test_limits_follow_from_the_costs_of_a_request() -> None:
    mix = Mix("images", 2.0, 1_000_000)  # 0.4 requests per second and replica
    found = limits(Front("front", 0.001, 2, 100, "round robin"), mix, active_per_replica=0.5)
    assert found == pytest.approx({"CPU": 5000, "bytes": 3125, "active requests": 200})


def test_costs_are_read_from_the_documentation() -> None:
    assert all(0 < front.cpu_s < 0.1 for front in fronts())
    with pytest.raises(LookupError, match="no row 'none'"):
        measured("benchmarks.md", "none", 0)
