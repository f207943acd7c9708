"""bench.soak reports wrong bytes, jobs that are left and memory that grows."""

import pytest

from bench.serving.processes import run_servers
from bench.soak import Soak, run_soak


def goals_met(soak: Soak) -> list[bool]:
    return [goal.met for goal in soak.section(1).goals]


def test_soak_passes_if_nothing_is_wrong_and_the_memory_is_constant() -> None:
    assert goals_met(Soak(memory=[50] * 20 + [100] * 80, jobs_left=0)) == [True, True, True]


def test_soak_fails_for_wrong_bytes_jobs_and_growth() -> None:
    soak = Soak(wrong=["http, raw: the bytes differ"], memory=list(range(100, 200)), jobs_left=1)
    assert goals_met(soak) == [False, False, False]


@pytest.mark.slow
async def test_disconnecting_clients_leave_no_job_and_complete_responses_are_compared() -> None:
    with run_servers([("bench.serving.constant_server",)]) as (server,):
        soak = await run_soak(server, 6, seed=1)
    assert soak.wrong == []
    assert soak.jobs_left == 0
    for protocol in ("http", "grpc"):
        assert soak.outcomes[f"{protocol}: complete, compared"] > 0
        assert sum(number for name, number in soak.outcomes.items() if name.startswith(f"{protocol}: abandoned")) > 0
