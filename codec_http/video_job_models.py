"""Pydantic models of the responses of the videos API, with the keys of OpenAI's API."""

from pydantic import Field

from codec_http.errors import public_code_and_message
from codec_http.response_models import ResponseModel
from codec_wire.remote_errors import error_from_code
from core.video_jobs.job import JobStatus, VideoJob


class VideoError(ResponseModel):
    """Reason why a video could not be generated."""

    code: str = Field(
        description="Error code, as in error responses; or interrupted if the server was killed repeatedly."
    )
    message: str = Field(description="What is wrong.")
    param: str | None = Field(description="Name of the request field that caused the error, or null.")


class VideoResponse(ResponseModel):
    """A video job, with the keys of OpenAI's API."""

    id: str = Field(description="Id of the video.")
    object: str = Field(default="video", description='Always "video".')
    model: str = Field(description="Name of the model.")
    status: JobStatus = Field(description="Status of the job.")
    progress: int = Field(description="Progress in percent: the completed sampling steps.")
    created_at: int = Field(description="Time of creation in seconds since 1970-01-01 UTC.")
    completed_at: int | None = Field(description="Time at which the job was completed or failed, or null.")
    expires_at: int | None = Field(description="Time at which the job and its files are deleted, or null.")
    prompt: str = Field(description="The prompt.")
    seconds: str = Field(description="Duration of the video in seconds: its number of frames divided by `fps`.")
    size: str = Field(description='Size in pixels as "WIDTHxHEIGHT".')
    remixed_from_video_id: None = Field(default=None, description="Always null.")
    error: VideoError | None = Field(description="Reason of a failed job, otherwise null.")
    seed: int = Field(description="Seed with which the video is generated.")
    frames: int = Field(description="Number of video frames.")
    fps: int = Field(description="Video frames per second.")


class VideoListResponse(ResponseModel):
    """A page of video jobs, with the keys of OpenAI's API."""

    object: str = Field(default="list", description='Always "list".')
    data: list[VideoResponse] = Field(description="The videos.")
    first_id: str | None = Field(description="Id of the first video of the page, or null.")
    last_id: str | None = Field(description="Id of the last video of the page, or null. Send it as `after`.")
    has_more: bool = Field(description="Whether more videos follow.")


class VideoDeletedResponse(ResponseModel):
    """Confirmation that a video was deleted, with the keys of OpenAI's API."""

    id: str = Field(description="Id of the video.")
    object: str = Field(default="video.deleted", description='Always "video.deleted".')
    deleted: bool = Field(default=True, description="Always true.")


def video_response(job: VideoJob, progress: int) -> VideoResponse:
    """Return the description of `job` for clients."""
    return VideoResponse(
        id=job.id,
        model=job.model,
        status=job.status,
        progress=progress,
        created_at=job.created_at,
        completed_at=job.completed_at,
        expires_at=job.expires_at,
        prompt=job.prompt,
        seconds=f"{job.num_frames / job.fps:.6g}",
        size=f"{job.width}x{job.height}",
        error=_video_error(job),
        seed=job.seed,
        frames=job.num_frames,
        fps=job.fps,
    )


def _video_error(job: VideoJob) -> VideoError | None:
    if job.error_code is None or job.error_message is None:
        return None
    code, message = job.error_code, job.error_message
    error = error_from_code(code, message, field=job.error_field)
    if error is not None:  # the text of an internal error is only for the log
        code, message = public_code_and_message(error)
    return VideoError(code=code, message=message, param=job.error_field)
