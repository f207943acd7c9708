"""Settings of the videos API, whose jobs and files are stored on disk."""

from pathlib import Path

from pydantic_settings import BaseSettings

from core.setting_field import setting

_PANEL = "Videos API"
DEFAULT_MAX_VIDEO_JOBS = 256
DEFAULT_MAX_VIDEO_MIB = 512
DEFAULT_VIDEO_EXPIRY_S = 24 * 60 * 60


class JobSettings(BaseSettings):
    """Settings of the jobs of POST /v1/videos. The class core.settings.Settings contains the fields of this class."""

    data_dir: Path | None = setting(
        _PANEL,
        None,
        "Directory in which the jobs and files of the videos API (POST /v1/videos) are stored, so that they survive a "
        "restart. Only one server at a time can use the directory. Default: a temporary directory, which is deleted "
        "when the server stops.",
    )
    max_video_jobs: int = setting(
        _PANEL,
        DEFAULT_MAX_VIDEO_JOBS,
        "Maximum number of stored video jobs: queued, running, finished and failed. Further jobs are refused.",
        ge=1,
    )
    max_video_mib: int = setting(
        _PANEL,
        DEFAULT_MAX_VIDEO_MIB,
        "Maximum total size in MiB of the files of all video jobs. A job reserves the space for its files when it is "
        "created, and is refused if there is not enough space.",
        ge=1,
    )
    video_expiry_s: int = setting(
        _PANEL,
        DEFAULT_VIDEO_EXPIRY_S,
        "Time in seconds after which a finished or failed video job and its files are deleted.",
        ge=1,
    )
