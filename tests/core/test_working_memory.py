"""Admission by predicted memory: what is refused, what waits, and when the memory is free again."""

import pytest

from codec_wire.errors import Overloaded, TooLarge
from core.admission import Admission
from core.working_memory import JobMemory

MIB = 2**20


def admission_with(limit_mib: int) -> Admission:
    admission = Admission(10, 10**9)
    admission.working_memory.limit = limit_mib * MIB
    return admission


def test_job_over_the_limit_is_too_large_and_the_error_has_both_figures() -> None:
    admission = admission_with(100)
    match = "about 101 MiB of memory, but the limit is 100 MiB; request a smaller size or fewer frames"
    with pytest.raises(TooLarge, match=match), admission.admit(1, memory=JobMemory(101 * MIB)):
        pass
    assert admission.jobs == 0


def test_jobs_that_fit_alone_wait_for_each_other_and_are_not_refused() -> None:
    admission = admission_with(100)
    job = JobMemory(90 * MIB, 1 * MIB)
    with admission.admit(1, memory=job), admission.admit(1, memory=job):
        assert admission.working_memory.used == 92 * MIB
    assert admission.working_memory.used == 0


def test_results_that_clients_have_not_read_count() -> None:
    admission = admission_with(100)
    job = JobMemory(50 * MIB, 20 * MIB)
    with admission.admit(1, memory=job), admission.admit(1, memory=job):
        with (
            pytest.raises(Overloaded, match="active jobs need 90 MiB .* limit is 100 MiB"),
            admission.admit(1, memory=job),
        ):
            pass
        with admission.admit(1):  # of a model whose memory was not measured
            pass
        assert admission.jobs == 2


def test_nothing_is_refused_without_a_limit() -> None:
    admission = Admission(10, 10**9)
    with admission.admit(1, memory=JobMemory(2**60)):
        assert admission.working_memory.used == 2**60


def test_peaks_of_a_batch_may_need_what_the_results_leave() -> None:
    admission = admission_with(100)
    with (
        admission.admit(1, memory=JobMemory(40 * MIB, 10 * MIB)),
        admission.admit(1, memory=JobMemory(20 * MIB, 15 * MIB)),
    ):
        assert admission.working_memory.free_for_peaks() == 75 * MIB
    assert admission.working_memory.free_for_peaks() == 100 * MIB
