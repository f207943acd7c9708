"""The store of video jobs. The store combines the database, the files and the limits."""

import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from codec_wire.errors import (
    InvalidRequest,
    NotFound,
    Overloaded,
    TooLarge,
    truncated_repr,
)
from codec_wire.http import VIDEO_JOBS_PATH
from core.admission import MAX_RETRY_AFTER_S
from core.video_jobs.database import JobDatabase
from core.video_jobs.files import JobFiles, delete_leftovers
from core.video_jobs.folder import lock_folder, storage_errors
from core.video_jobs.job import MAX_ATTEMPTS, JobLimits, JobStatus, VideoJob

ROW_BYTES = 2048
"""Space in bytes that a job occupies in the database, in addition to the text of the request."""
INTERRUPTED = "interrupted"
"""Error code of a job during which the process was killed several times."""


class JobStore:
    """The stored video jobs. All methods block. Create the store and call the methods of the store on the same thread.

    Only one process at a time can open a folder. The methods raise OutOfStorage if the folder cannot be written.
    """

    def __init__(self, folder: Path, limits: JobLimits) -> None:
        """Open the store in `folder`. If `folder` does not exist, the folder is created.

        Jobs that were running when another process ended are queued again (see `_recover`).

        Raises InvalidSettings if the folder cannot be written, is used by another process or is not a store.
        """
        self.folder = folder
        self.limits = limits
        self.usage: Mapping[JobStatus, tuple[int, int]] = {}
        """Number of jobs and total size of jobs in bytes after the last change, separately for each status.

        The attribute `usage` may be read on any thread.
        """
        self._lock = lock_folder(folder)
        try:
            self._database = JobDatabase(folder / "jobs.sqlite3")
            with storage_errors():
                self._recover()
        except BaseException:
            self._lock.close()
            raise

    def close(self) -> None:
        """Close the store."""
        self._database.close()
        self._lock.close()

    def files(self, job_id: str) -> JobFiles:
        """Return the files of a job."""
        return JobFiles(self.folder, job_id)

    def require_place(self, client: str, size: int = 0) -> None:
        """Check that `client` may store another job that reserves `size` bytes.

        Raises TooLarge if `size` alone exceeds the limit on the size of all jobs. Raises Overloaded if the new job
        would exceed a limit. The limits apply to the number and the total size of all jobs, and to the number of jobs
        of `client`.
        """
        limits = self.limits
        self.delete_expired()
        count = sum(count for count, _ in self.usage.values())
        total = sum(total for _, total in self.usage.values())
        remedy = f"delete videos that are no longer needed (DELETE {VIDEO_JOBS_PATH}/ID), or wait until one expires"
        if count >= limits.max_jobs:
            raise self._full(f"{count} video jobs are stored, but the limit is {limits.max_jobs}: {remedy}")
        of_client = self._database.count_of(client)
        if of_client >= limits.max_jobs_per_client:
            raise self._full(
                f"this client has {of_client} stored video jobs, but the limit for one client is "
                f"{limits.max_jobs_per_client}: {remedy}"
            )
        if size > limits.max_bytes:
            raise TooLarge(
                f"the files of this video need up to {size} bytes, but the limit for all videos is "
                f"{limits.max_bytes}; request a smaller size or fewer frames"
            )
        if total + size > limits.max_bytes:
            raise self._full(
                f"the stored videos occupy {total} bytes and this video needs up to {size}, but the limit is "
                f"{limits.max_bytes}: {remedy}"
            )

    def add(self, job: VideoJob, inputs: Mapping[str, bytes]) -> VideoJob:
        """Store `job` and the files of the request.

        The keys of `inputs` are the names of the request fields. The job reserves `job.size_bytes` bytes for the result
        files.

        Return the stored job. Raises the errors of require_place.
        """
        size = job.size_bytes + sum(map(len, inputs.values())) + len(job.request.encode()) + ROW_BYTES
        with storage_errors():
            self.require_place(job.client, size)
            stored = replace(job, size_bytes=size)
            files = self.files(job.id)
            try:
                files.write_inputs(inputs)
                self._database.insert(stored)
            except BaseException:
                files.delete()
                raise
            self._measure()
        return stored

    def get(self, job_id: str, owner: str | None) -> VideoJob:
        """Return a job of `owner`.

        Raises NotFound if the job does not exist, is expired or belongs to another owner.
        """
        with storage_errors():
            job = self._database.find(job_id)
        if job is None or job.owner != owner or (job.expires_at is not None and job.expires_at <= _now()):
            raise job_not_found(job_id)
        return job

    def page(self, owner: str | None, after: str | None, limit: int, *, ascending: bool) -> tuple[list[VideoJob], bool]:
        """Return up to `limit` jobs of `owner` in the order of creation, and whether more jobs follow.

        If `after` is not None, the jobs follow the job with the id `after`. Raises InvalidRequest if `owner` has no job
        with the id `after`.
        """
        if after is not None:
            try:
                self.get(after, owner)
            except NotFound:
                raise unknown_cursor(after) from None
        with storage_errors():
            jobs = self._database.page(owner, _now(), after, limit + 1, ascending=ascending)
        return jobs[:limit], len(jobs) > limit

    def read_inputs(self, job_id: str) -> dict[str, bytes]:
        """Return the files in the request of a job. The keys of the result are the names of the request fields."""
        with storage_errors():
            return self.files(job_id).read_inputs()

    def delete(self, job_id: str, owner: str | None) -> None:
        """Delete a job of `owner` and the files of the job. Raises NotFound if the job does not exist."""
        self.get(job_id, owner)
        with storage_errors():
            self._delete(job_id)
            self._measure()

    def take_next(self, without: Collection[str], last_served: Mapping[str, int]) -> VideoJob | None:
        """Mark the next queued job as running and return the job. Return None if no job is queued.

        The clients with queued jobs are served in turn. `last_served` contains a number for each client whose jobs were
        run. The client that was served last has the highest number in `last_served`. Clients in `without` are left out.
        """
        with storage_errors():
            queued = self._database.first_queued(without)
            if not queued:
                return None
            _, job_id = min(queued, key=lambda item: last_served.get(item[0], -1))
            job = self._database.find(job_id)
            if job is None:
                return None
            self._update(job_id, status=JobStatus.IN_PROGRESS, attempts=job.attempts + 1)
            return self._database.find(job_id)

    def requeue(self, job: VideoJob) -> None:
        """Queue the running job `job` again, as if the job had not been started."""
        with storage_errors():
            self._update(job.id, status=JobStatus.QUEUED, attempts=job.attempts - 1)

    def complete(self, job: VideoJob, map_hash: str) -> None:
        """Mark `job` as completed.

        The files of `job` must exist. If the job was deleted, the files of the job are deleted.
        """
        with storage_errors():
            files = self.files(job.id)
            files.delete_inputs()
            self._end(job, JobStatus.COMPLETED, files.size(), map_hash=map_hash)

    def fail(self, job: VideoJob, code: str, message: str, field: str | None) -> None:
        """Mark `job` as failed and delete the files of the job."""
        with storage_errors():
            self.files(job.id).delete()
            self._end(job, JobStatus.FAILED, 0, error_code=code, error_message=message, error_field=field)

    def delete_expired(self) -> int | None:
        """Delete the expired jobs and the files of these jobs.

        Return the time at which the next job expires, or None if no job expires.
        """
        with storage_errors():
            expired = self._database.expired(_now())
            for job_id in expired:
                self._delete(job_id)
            if expired:
                self._measure()
            return self._database.next_expiry()

    def _recover(self) -> None:
        """Queue the jobs that ran when the previous process ended, and delete files that belong to no job.

        A job that was started MAX_ATTEMPTS times is marked as failed, because this job may be the reason why the
        process was killed.
        """
        delete_leftovers(self.folder, self._database.ids())
        self._measure()
        self.delete_expired()
        for job in self._database.with_status(JobStatus.IN_PROGRESS):
            if job.attempts < MAX_ATTEMPTS:
                self._update(job.id, status=JobStatus.QUEUED)
            else:
                reason = f"the server was killed {job.attempts} times while it generated this video"
                self.fail(job, INTERRUPTED, reason, None)

    def _end(self, job: VideoJob, status: JobStatus, size: int, **values: object) -> None:
        now = _now()
        found = self._update(
            job.id,
            status=status,
            completed_at=now,
            expires_at=now + self.limits.expiry_s,
            size_bytes=size + len(job.request.encode()) + ROW_BYTES,
            **values,
        )
        if not found:
            self.files(job.id).delete()

    def _update(self, job_id: str, **values: object) -> bool:
        found = self._database.update(job_id, values)
        self._measure()
        return found

    def _delete(self, job_id: str) -> None:
        # The files first: if the process is killed here, the job is deleted with the next attempt.
        self.files(job_id).delete()
        self._database.delete(job_id)

    def _measure(self) -> None:
        self.usage = self._database.usage()

    def _full(self, reason: str) -> Overloaded:
        expiry = self._database.next_expiry()
        seconds = MAX_RETRY_AFTER_S if expiry is None else expiry - _now()
        return Overloaded(reason, min(MAX_RETRY_AFTER_S, max(1, seconds)))


def job_not_found(job_id: str) -> NotFound:
    """Return the error for a job that does not exist or belongs to another client."""
    return NotFound("video_id", f"{truncated_repr(job_id)} not found; GET {VIDEO_JOBS_PATH} lists the videos")


def unknown_cursor(after: str) -> InvalidRequest:
    """Return the error for a request to list the jobs after the job `after` if this job does not exist."""
    return InvalidRequest("after", f"must be the id of a video, got {truncated_repr(after)}")


def _now() -> int:
    return int(time.time())
