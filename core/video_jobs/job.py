"""Description of a video job, and the limits on all video jobs."""

import json
import secrets
from dataclasses import dataclass
from enum import StrEnum

from core.admission import default_jobs_per_client
from core.job_settings import (
    DEFAULT_MAX_VIDEO_JOBS,
    DEFAULT_MAX_VIDEO_MIB,
    DEFAULT_VIDEO_EXPIRY_S,
    JobSettings,
)

ID_PREFIX = "video_"
MAX_ATTEMPTS = 2
"""Maximum number of times that a job is started if the process ends while the job runs.

After this number of starts, the job is reported as failed.
"""


class JobStatus(StrEnum):
    """Status of a video job, with the names of OpenAI's API."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class VideoJob:
    """A stored video job.

    `owner` is the name of the API key that created the job, or None if no key was required. `client` is the value by
    which the limits for one client distinguish clients. `request` is the JSON text of the generation request, without
    the files of the request. Times are in seconds since 1970. `attempts` is the number of times that the job was
    started. Until a job ends, `size_bytes` is the space that the job reserves. After a job has ended, `size_bytes` is
    the space that the job occupies.
    """

    id: str
    owner: str | None
    client: str
    status: JobStatus
    request: str
    model: str
    width: int
    height: int
    num_frames: int
    fps: int
    seed: int
    created_at: int
    size_bytes: int
    request_id: str
    traceparent: str | None = None
    attempts: int = 0
    completed_at: int | None = None
    expires_at: int | None = None
    map_hash: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    error_field: str | None = None

    @property
    def prompt(self) -> str:
        """The prompt of the request."""
        return str(json.loads(self.request)["prompt"])


def new_job_id() -> str:
    """Return an id for a new job. The id cannot be guessed."""
    return ID_PREFIX + secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class JobLimits:
    """Limits on the stored jobs: the number of jobs, the size of the files, and the seconds until a job is deleted."""

    max_jobs: int = DEFAULT_MAX_VIDEO_JOBS
    max_bytes: int = DEFAULT_MAX_VIDEO_MIB * 2**20
    expiry_s: int = DEFAULT_VIDEO_EXPIRY_S

    @classmethod
    def from_settings(cls, settings: JobSettings) -> "JobLimits":
        """Return the limits in `settings`."""
        return cls(settings.max_video_jobs, settings.max_video_mib * 2**20, settings.video_expiry_s)

    @property
    def max_jobs_per_client(self) -> int:
        """Maximum number of stored jobs of one client."""
        return default_jobs_per_client(self.max_jobs)
