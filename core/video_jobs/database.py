"""The table of video jobs in a SQLite database."""

import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from codec_wire.errors import InvalidSettings
from core.video_jobs.job import JobStatus, VideoJob

_VERSION = 1
"""Version of the format of the table. The version is stored in the database."""
_COLUMNS = tuple(field.name for field in fields(VideoJob))
_SCHEMA = """
CREATE TABLE jobs (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT,
    client TEXT NOT NULL,
    status TEXT NOT NULL,
    request TEXT NOT NULL,
    model TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    num_frames INTEGER NOT NULL,
    fps INTEGER NOT NULL,
    seed TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    traceparent TEXT,
    attempts INTEGER NOT NULL,
    completed_at INTEGER,
    expires_at INTEGER,
    map_hash TEXT,
    error_code TEXT,
    error_message TEXT,
    error_field TEXT
)
"""


class JobDatabase:
    """The table of video jobs.

    Use a JobDatabase only on the thread that creates it. Every change is on the disk when the method that makes the
    change returns.

    The methods raise sqlite3.Error if the database cannot be read or written, for example because the disk is full.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the database.

        Raises InvalidSettings if the file is not a database of video jobs, or if the table has another version than
        _VERSION.
        """
        try:
            self._connection = sqlite3.connect(path, isolation_level=None)
        except sqlite3.Error as error:  # e.g. the path is a directory
            raise InvalidSettings(f"{path} cannot be used as the database of video jobs: {error}") from None
        try:
            # Deleted prompts must not stay in the file, and the file must become smaller.
            self._connection.execute("PRAGMA auto_vacuum = FULL")
            self._connection.execute("PRAGMA secure_delete = ON")
            self._connection.execute("PRAGMA synchronous = FULL")
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self._connection.executescript(f"BEGIN; {_SCHEMA}; PRAGMA user_version = {_VERSION}; COMMIT")
            elif version != _VERSION:
                raise InvalidSettings(f"{path} has the version {version}, but this release reads version {_VERSION}")
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise InvalidSettings(f"{path} cannot be used as the database of video jobs: {error}") from None
        except InvalidSettings:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def insert(self, job: VideoJob) -> None:
        """Add `job`."""
        values = {**asdict(job), "seed": str(job.seed)}  # a seed has up to 64 bits without a sign
        marks = ", ".join(f":{name}" for name in _COLUMNS)
        self._connection.execute(f"INSERT INTO jobs ({', '.join(_COLUMNS)}) VALUES ({marks})", values)  # noqa: S608

    def update(self, job_id: str, values: Mapping[str, Any]) -> bool:
        """Change columns of the job with the id `job_id`.

        The dictionary `values` contains the new values. The keys of `values` are the names of the columns. Return False
        if the job does not exist.
        """
        assignments = ", ".join(f"{name} = :{name}" for name in values)
        statement = f"UPDATE jobs SET {assignments} WHERE id = :id"  # noqa: S608 - the names are not from clients
        return self._connection.execute(statement, {**values, "id": job_id}).rowcount > 0

    def delete(self, job_id: str) -> None:
        """Delete the job with the id `job_id` if the job exists."""
        self._connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def find(self, job_id: str) -> VideoJob | None:
        """Return the job with the id `job_id`, or None if the job does not exist."""
        found = self._select("WHERE id = :id", {"id": job_id})
        return found[0] if found else None

    def with_status(self, *statuses: JobStatus) -> list[VideoJob]:
        """Return the jobs with one of the statuses `statuses`, in the order of creation."""
        marks = ", ".join("?" * len(statuses))
        return self._select(f"WHERE status IN ({marks}) ORDER BY position", statuses)

    def page(self, owner: str | None, now: int, after: str | None, limit: int, *, ascending: bool) -> list[VideoJob]:
        """Return up to `limit` unexpired jobs of `owner` that follow the job `after` in the order of creation."""
        comparison, order = (">", "ASC") if ascending else ("<", "DESC")
        condition = "owner IS :owner AND (expires_at IS NULL OR expires_at > :now)"
        if after is not None:
            condition += f" AND position {comparison} (SELECT position FROM jobs WHERE id = :after)"  # noqa: S608
        return self._select(
            f"WHERE {condition} ORDER BY position {order} LIMIT :limit",
            {"owner": owner, "now": now, "after": after, "limit": limit},
        )

    def expired(self, now: int) -> list[str]:
        """Return the ids of the jobs that expire at the time `now` or before."""
        rows = self._connection.execute("SELECT id FROM jobs WHERE expires_at <= ?", (now,))
        return [job_id for (job_id,) in rows]

    def next_expiry(self) -> int | None:
        """Return the time at which the next job expires, or None if no job expires."""
        (time,) = self._connection.execute("SELECT min(expires_at) FROM jobs").fetchone()
        return None if time is None else int(time)

    def first_queued(self, without: Collection[str]) -> list[tuple[str, str]]:
        """Return (client, job id) of the oldest queued job of each client. The result begins with the oldest job.

        Clients in `without` are left out.
        """
        rows = self._connection.execute(
            "SELECT client, id, min(position) FROM jobs WHERE status = ? GROUP BY client ORDER BY min(position)",
            (JobStatus.QUEUED,),
        )
        return [(client, job_id) for client, job_id, _ in rows if client not in without]

    def usage(self) -> dict[JobStatus, tuple[int, int]]:
        """Return the number of jobs and the total size of jobs in bytes, separately for each status."""
        rows = self._connection.execute("SELECT status, count(*), sum(size_bytes) FROM jobs GROUP BY status")
        return {JobStatus(status): (count, size) for status, count, size in rows}

    def count_of(self, client: str) -> int:
        """Return the number of jobs of `client`."""
        (count,) = self._connection.execute("SELECT count(*) FROM jobs WHERE client = ?", (client,)).fetchone()
        return int(count)

    def ids(self) -> set[str]:
        """Return the ids of all jobs."""
        return {job_id for (job_id,) in self._connection.execute("SELECT id FROM jobs")}

    def _select(self, condition: str, values: Any) -> list[VideoJob]:
        statement = f"SELECT {', '.join(_COLUMNS)} FROM jobs {condition}"  # noqa: S608 - only values are from clients
        return [_job(row) for row in self._connection.execute(statement, values)]


def _job(row: tuple[Any, ...]) -> VideoJob:
    values = dict(zip(_COLUMNS, row, strict=True))
    return VideoJob(**values | {"status": JobStatus(values["status"]), "seed": int(values["seed"])})
