"""Admission control: limits, immediate rejection, and release after each job."""

import asyncio

import pytest

from codec_wire.errors import Overloaded, TooLarge
from core.admission import Admission


def test_job_over_the_limit_is_rejected_until_another_ends() -> None:
    admission = Admission(2, 10**9)
    with admission.admit(1), admission.admit(1):
        with pytest.raises(Overloaded, match="2 of 2 jobs"), admission.admit(1):
            pass
        assert admission.jobs == 2
    with admission.admit(1):
        assert admission.jobs == 1
    assert admission.jobs == 0


def test_job_over_the_total_cost_is_rejected() -> None:
    admission = Admission(10, 100)
    with admission.admit(60):
        with pytest.raises(Overloaded, match="cost is 60 of 100"), admission.admit(41):
            pass
        with admission.admit(40):
            pass


def test_job_over_the_cost_limit_by_itself_is_too_large() -> None:
    with pytest.raises(TooLarge, match="costs 101"), Admission(10, 100).admit(101):
        pass


def test_failed_job_is_released() -> None:
    admission = Admission(1, 100)
    with pytest.raises(ZeroDivisionError), admission.admit(100):
        raise ZeroDivisionError
    with admission.admit(100):
        pass


def estimates(admission: Admission) -> set[int]:
    return {admission.retry_after_s() for _ in range(300)}


def test_retry_after_follows_the_measured_speed() -> None:
    admission = Admission(10, 10**9)
    assert estimates(admission) == {1, 2}
    admission.record_duration(100, 20.0)  # 0.2 s per unit of cost
    assert estimates(admission) == {1, 2}
    with admission.admit(300):
        received = estimates(admission)
        assert (min(received), max(received)) == (30, 45)
        assert len(received) > 10
        for _ in range(30):  # the device is now ten times as fast
            admission.record_duration(100, 2.0)
        assert estimates(admission) == {4, 5, 6}


def test_retry_after_is_weighted_by_cost_and_bounded() -> None:
    admission = Admission(40, 10**12)
    admission.record_duration(10**8, 100.0)
    admission.record_duration(4096, 0.1)
    with admission.admit(10**7):
        assert estimates(admission) == {6, 7, 8, 9}
    with admission.admit(10**11):
        assert estimates(admission) == {120}


async def test_wait_idle_returns_after_the_last_job() -> None:
    admission = Admission(10, 100)
    await asyncio.wait_for(admission.wait_idle(), 1)
    with admission.admit(1):
        idle = asyncio.ensure_future(admission.wait_idle())
        await asyncio.sleep(0)
        assert not idle.done()
    await asyncio.wait_for(idle, 1)


def test_limits_are_those_of_each_device() -> None:
    admission = Admission(max_jobs=2, max_cost=10)
    admission.set_devices(3)
    assert (admission.max_jobs, admission.max_cost) == (6, 30)
    assert admission.max_jobs_per_client == 5
    for client in "abcdef":
        admission.admit(5, client=client)
    with pytest.raises(Overloaded, match="6 of 6 jobs are active"):
        admission.admit(1, client="g")


def test_request_over_the_cost_of_one_device_is_too_large_for_several() -> None:
    admission = Admission(max_jobs=2, max_cost=10)
    admission.set_devices(3)
    with pytest.raises(TooLarge):
        admission.admit(11)


def test_several_devices_shorten_the_time_to_wait() -> None:
    admission = Admission(max_jobs=4, max_cost=100)
    admission.record_duration(1, 1.0)
    admission.admit(100)
    assert admission.retry_after_s() >= 50
    admission.set_devices(5)
    assert 10 <= admission.retry_after_s() <= 16
