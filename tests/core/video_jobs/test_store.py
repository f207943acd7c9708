"""The store of video jobs: limits, order, expiry, and what remains after the process is killed."""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codec_wire.errors import InvalidRequest, InvalidSettings, NotFound, OutOfStorage, Overloaded, TooLarge
from core.video_jobs.job import JobLimits, JobStatus, VideoJob, new_job_id
from core.video_jobs.store import INTERRUPTED, ROW_BYTES, JobStore

LIMITS = JobLimits(max_jobs=100, max_bytes=1_000_000, expiry_s=1000)


def new_job(**values: Any) -> VideoJob:
    defaults: dict[str, Any] = {
        "id": new_job_id(),
        "owner": None,
        "client": "10.0.0.1",
        "status": JobStatus.QUEUED,
        "request": '{"prompt": "a sea 🌊"}',
        "model": "m",
        "width": 64,
        "height": 48,
        "num_frames": 3,
        "fps": 6,
        "seed": 2**64 - 1,
        "created_at": int(time.time()),
        "size_bytes": 1000,
        "request_id": "r",
    }
    return VideoJob(**defaults | values)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    store = JobStore(tmp_path / "videos", LIMITS)
    yield store
    store.close()


def take(store: JobStore) -> VideoJob:
    job = store.take_next((), {})
    assert job is not None
    return job


def write_results(store: JobStore, job: VideoJob, size: int = 10) -> None:
    store.files(job.id).latents.write_bytes(bytes(size))
    store.files(job.id).video.write_bytes(bytes(size))


def complete(store: JobStore, job: VideoJob) -> None:
    write_results(store, job)
    store.complete(job, "sha256:0")


def names(store: JobStore) -> set[str]:
    return {path.name for path in store.folder.iterdir()} - {"lock", "jobs.sqlite3"}


def reopened(store: JobStore, limits: JobLimits = LIMITS) -> JobStore:
    """Return the store as the next process opens it. The store of this process is only closed, as by a kill."""
    store.close()
    return JobStore(store.folder, limits)


def test_job_is_returned_as_it_was_stored(store: JobStore) -> None:
    job = store.add(new_job(owner="key", traceparent="t"), {"image": b"png"})
    assert store.get(job.id, "key") == job
    assert (job.prompt, job.seed) == ("a sea 🌊", 2**64 - 1)
    assert store.read_inputs(job.id) == {"image": b"png"}
    assert job.size_bytes == 1000 + 3 + len(job.request.encode()) + ROW_BYTES


def test_jobs_of_other_owners_are_not_found(store: JobStore) -> None:
    job = store.add(new_job(owner="a"), {})
    for owner in ("b", None):
        for access in (store.get, store.delete):
            with pytest.raises(NotFound, match="video_id: 'video_.* not found"):
                access(job.id, owner)
        assert store.page(owner, None, 10, ascending=True) == ([], False)
        with pytest.raises(InvalidRequest, match="after"):
            store.page(owner, job.id, 10, ascending=True)


def test_pages_follow_the_order_of_creation(store: JobStore) -> None:
    ids = [store.add(new_job(), {}).id for _ in range(5)]
    for ascending, order in ((True, ids), (False, ids[::-1])):
        first, more = store.page(None, None, 2, ascending=ascending)
        second, more_after = store.page(None, first[-1].id, 3, ascending=ascending)
        assert [job.id for job in (*first, *second)] == order
        assert (more, more_after) == (True, False)


def test_clients_are_served_in_turn_and_each_in_the_order_of_creation(store: JobStore) -> None:
    ids = {name: [store.add(new_job(client=name), {}).id for _ in range(2)] for name in ("a", "b")}
    served: dict[str, int] = {}
    order = []
    for number in range(4):
        job = store.take_next((), served)
        assert job is not None
        assert (job.status, job.attempts) == (JobStatus.IN_PROGRESS, 1)
        served[job.client] = number
        order.append(job.id)
    assert order == [ids["a"][0], ids["b"][0], ids["a"][1], ids["b"][1]]
    assert store.take_next((), served) is None


def test_clients_that_wait_are_left_out(store: JobStore) -> None:
    store.add(new_job(client="a"), {})
    job = store.add(new_job(client="b"), {})
    taken = store.take_next(("a",), {})
    assert taken is not None
    assert taken.id == job.id
    assert store.take_next(("a",), {}) is None


def test_number_of_jobs_is_limited_in_total_and_for_each_client(tmp_path: Path) -> None:
    store = JobStore(tmp_path, JobLimits(max_jobs=8, max_bytes=10**9, expiry_s=50))
    for _ in range(7):
        store.add(new_job(), {})
    with pytest.raises(Overloaded, match="this client has 7 stored video jobs, but the limit for one client is 7"):
        store.add(new_job(), {})
    complete(store, take(store))
    store.add(new_job(client="other"), {})
    with pytest.raises(Overloaded, match="8 video jobs are stored, but the limit is 8: delete videos") as caught:
        store.require_place("third")
    assert 1 <= caught.value.retry_after_s <= 50  # until the completed job expires
    store.delete(store.page(None, None, 1, ascending=True)[0][0].id, None)
    store.require_place("third")
    store.close()


def test_space_is_reserved_and_then_counted_as_it_is_used(store: JobStore) -> None:
    with pytest.raises(TooLarge, match="need up to .* bytes, but the limit for all videos is 1000000"):
        store.add(new_job(size_bytes=1_000_000), {})
    store.add(new_job(size_bytes=600_000), {})
    with pytest.raises(Overloaded, match="occupy 60.* bytes and this video needs up to 60"):
        store.add(new_job(size_bytes=600_000), {"image": b"1"})
    assert not names(store)
    complete(store, take(store))
    assert store.usage == {JobStatus.COMPLETED: (1, 20 + len(new_job().request.encode()) + ROW_BYTES)}
    store.add(new_job(size_bytes=600_000), {})


def test_expired_jobs_leave_no_file(tmp_path: Path) -> None:
    store = JobStore(tmp_path, JobLimits(expiry_s=1))
    completed = store.add(new_job(), {"image": b"1"})
    complete(store, take(store))
    failed = store.add(new_job(), {"image": b"1"})
    store.fail(take(store), "invalid_latents", "not finite", None)
    queued = store.add(new_job(), {})
    assert names(store) == {f"{completed.id}.latents", f"{completed.id}.mp4"}
    end = time.monotonic() + 10
    while store.delete_expired() is not None and time.monotonic() < end:
        time.sleep(0.1)
    assert not names(store)
    for job in (completed, failed):
        with pytest.raises(NotFound):
            store.get(job.id, None)
    assert store.get(queued.id, None).status is JobStatus.QUEUED
    store.close()


def test_finished_and_queued_jobs_survive_a_restart_and_a_running_one_is_queued(store: JobStore) -> None:
    completed = store.add(new_job(), {})
    complete(store, take(store))
    running = store.add(new_job(), {"image": b"png"})
    take(store)
    store.files(running.id).latents.write_bytes(b"complete")
    (store.folder / f"{running.id}.mp4.tmp").write_bytes(b"incomplete")
    (store.folder / f"{new_job_id()}.mp4").write_bytes(b"of a deleted job")
    queued = store.add(new_job(), {})
    again = reopened(store)
    assert again.get(completed.id, None).status is JobStatus.COMPLETED
    assert again.get(queued.id, None).status is JobStatus.QUEUED
    assert (again.get(running.id, None).status, again.read_inputs(running.id)) == (JobStatus.QUEUED, {"image": b"png"})
    assert names(again) == {
        f"{completed.id}.latents",
        f"{completed.id}.mp4",
        f"{running.id}.latents",
        f"{running.id}.input-image",
    }
    again.close()


def test_job_that_was_killed_twice_fails(store: JobStore) -> None:
    job = store.add(new_job(), {"image": b"png"})
    take(store)
    again = reopened(store)
    take(again)
    third = reopened(again)
    failed = third.get(job.id, None)
    assert (failed.status, failed.error_code) == (JobStatus.FAILED, INTERRUPTED)
    assert failed.error_message == "the server was killed 2 times while it generated this video"
    assert failed.expires_at is not None
    assert not names(third)
    third.close()


def test_requeued_job_has_not_used_an_attempt(store: JobStore) -> None:
    store.add(new_job(), {})
    for _ in range(3):
        store.requeue(take(store))
    again = reopened(store)
    assert take(again).attempts == 1
    again.close()


def test_results_of_a_job_that_was_deleted_while_it_ran_are_deleted(store: JobStore) -> None:
    for fails in (False, True):
        job = store.add(new_job(), {})
        taken = take(store)
        store.delete(job.id, None)
        write_results(store, taken)
        if fails:
            store.fail(taken, "internal", "x", None)
        else:
            store.complete(taken, "sha256:0")
        assert not names(store)
        assert store.usage == {}


def test_second_process_cannot_open_the_folder(store: JobStore) -> None:
    with pytest.raises(InvalidSettings, match=r"CODEC_DATA_DIR \(--data-dir\): cannot use .*: another server uses it"):
        JobStore(store.folder, LIMITS)


def test_folder_that_cannot_be_used_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidSettings, match="cannot use .* for video jobs: Not a directory"):
        JobStore(tmp_path / "file" / "videos", LIMITS)
    (tmp_path / "jobs.sqlite3").write_text("this is not a database, but it is long enough to have a header " * 9)
    with pytest.raises(InvalidSettings, match="cannot be used as the database of video jobs"):
        JobStore(tmp_path, LIMITS)
    (tmp_path / "jobs.sqlite3").unlink()
    (tmp_path / "jobs.sqlite3").mkdir()
    with pytest.raises(InvalidSettings, match="cannot be used as the database of video jobs"):
        JobStore(tmp_path, LIMITS)
    (tmp_path / "jobs.sqlite3").rmdir()
    connection = sqlite3.connect(tmp_path / "jobs.sqlite3")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(InvalidSettings, match="has the version 99, but this release reads version 1"):
        JobStore(tmp_path, LIMITS)


def test_database_that_cannot_be_written_is_out_of_storage(store: JobStore) -> None:
    other = sqlite3.connect(store.folder / "jobs.sqlite3", isolation_level=None)
    other.execute("DROP TABLE jobs")
    other.close()
    with pytest.raises(OutOfStorage, match="the video jobs cannot be stored: no such table"):
        store.add(new_job(), {"image": b"1"})
    assert not names(store)


def test_deleted_prompts_are_not_in_the_database_file(store: JobStore) -> None:
    job = store.add(new_job(request='{"prompt": "confidential"}'), {})
    database = store.folder / "jobs.sqlite3"
    assert b"confidential" in database.read_bytes()
    store.delete(job.id, None)
    assert b"confidential" not in database.read_bytes()


def test_files_of_other_programs_are_not_deleted(store: JobStore) -> None:
    (store.folder / "notes.txt").write_text("x")
    (store.folder / "video_1.mp4").write_text("x")
    again = reopened(store)
    assert names(again) == {"notes.txt", "video_1.mp4"}
    again.close()
