"""Routes of the videos API."""

from codec_http import video_jobs
from codec_http.route import JOB_ERRORS, JSON, Route
from codec_http.video_job_body import VideoJobBody
from codec_http.video_job_models import VideoDeletedResponse, VideoListResponse, VideoResponse
from codec_wire import errors
from codec_wire.http import VIDEO_JOBS_PATH

VIDEO_JOBS = "Video jobs"
"""OpenAPI tag of the endpoints."""

# The path of generations is not the id of a video.
_VIDEO_PATH = f"{VIDEO_JOBS_PATH}/{{video_id:(?!generations$)[^/]+}}"
_STORAGE_ERRORS = (errors.NotFound, errors.OutOfStorage)

VIDEO_JOB_ROUTES = (
    Route(
        "POST",
        VIDEO_JOBS_PATH,
        video_jobs.create,
        VIDEO_JOBS,
        "Create a video",
        "Stores a job that generates a video, and returns its description immediately. The status changes from "
        "`queued` to `in_progress` to `completed` or `failed`. The body is JSON or a form, in which images are files. "
        "The latents and the MP4 file are stored until the job expires or is deleted.",
        {200: {JSON: VideoResponse}},
        (VideoJobBody,),
        errors=(*JOB_ERRORS, errors.UnsupportedMediaType),
        accepts_form=True,
    ),
    Route(
        "GET",
        VIDEO_JOBS_PATH,
        video_jobs.list_videos,
        VIDEO_JOBS,
        "List videos",
        "Lists the videos that were created with the same API key.",
        {200: {JSON: VideoListResponse}},
        errors=(errors.InvalidRequest, errors.OutOfStorage),
        query=video_jobs.LIST_PARAMETERS,
    ),
    Route(
        "GET",
        _VIDEO_PATH,
        video_jobs.retrieve,
        VIDEO_JOBS,
        "Get a video",
        "Returns the status and the progress of a video.",
        {200: {JSON: VideoResponse}},
        errors=_STORAGE_ERRORS,
    ),
    Route(
        "DELETE",
        _VIDEO_PATH,
        video_jobs.delete,
        VIDEO_JOBS,
        "Delete a video",
        "Deletes a video and its files. A job that has not ended is cancelled within one step.",
        {200: {JSON: VideoDeletedResponse}},
        errors=_STORAGE_ERRORS,
    ),
    Route(
        "GET",
        f"{_VIDEO_PATH}/content",
        video_jobs.content,
        VIDEO_JOBS,
        "Download a video",
        "Returns the MP4 file, or the stream of latents in the msgpack format, of a completed video. Both are from the "
        "same generation. Ranges of bytes can be requested.",
        {200: {video_jobs.VIDEO_MEDIA_TYPE: None, video_jobs.LATENTS_MEDIA_TYPE: None}},
        headers=video_jobs.CONTENT_HEADERS,
        errors=(errors.InvalidRequest, *_STORAGE_ERRORS),
        query=video_jobs.CONTENT_PARAMETERS,
    ),
)
