"""Handlers of the videos API, which generates videos as jobs whose results are stored."""

from aiohttp import hdrs, web

from codec_http.query import query_of
from codec_http.state import VIDEO_JOBS
from codec_http.video_job_body import read_video_job
from codec_http.video_job_models import VideoDeletedResponse, VideoListResponse, VideoResponse, video_response
from codec_wire import WireFormat
from codec_wire.errors import FieldError, InvalidRequest, NotFound, truncated_repr
from codec_wire.http import (
    LATENT_MAP_HEADER,
    MODEL_HEADER,
    PIXEL_MEDIA_TYPES,
    SEED_HEADER,
    VIDEO_JOBS_PATH,
    default_media_type,
    header_value,
)
from codec_wire.integers import parse_integer
from core.request_record import current_record
from core.video_jobs.job import JobStatus, VideoJob

VIDEO_MEDIA_TYPE = PIXEL_MEDIA_TYPES["mp4"]
LATENTS_MEDIA_TYPE = default_media_type(WireFormat.MSGPACK)
DEFAULT_LIMIT, MAX_LIMIT = 20, 100
LIST_PARAMETERS = {
    "after": "Id of the last video of the previous page.",
    "limit": f"Maximum number of videos, 1 to {MAX_LIMIT}. Default: {DEFAULT_LIMIT}.",
    "order": "asc or desc: order by time of creation. Default: desc, the newest video first.",
}
"""Query parameters of the list of videos."""
CONTENT_PARAMETERS = {
    "variant": "video: the MP4 file. latents: the stream of latents, from which the MP4 file was decoded. Default: "
    "video."
}
"""Query parameters of the content of a video."""
CONTENT_HEADERS = {
    LATENT_MAP_HEADER: "sha256:<hex> of the latent-space map that describes the latents.",
    MODEL_HEADER: "Name of the model. Characters other than printable ASCII are percent-encoded.",
    SEED_HEADER: "Seed of the noise.",
    "ETag": "Identifies the file. Send it in If-None-Match to revalidate a cached copy.",
}


async def create(request: web.Request) -> web.Response:
    """Handle POST /v1/videos. Limits that do not depend on the request are checked before the body is read."""
    jobs, record = request.app[VIDEO_JOBS], current_record()
    await jobs.require_place(record.client)
    body = await read_video_job(request)
    try:
        job = await jobs.create(body.generation_request(), record)
    except FieldError as error:
        raise body.named_as_sent(error) from None
    return _response(video_response(job, 0))


async def retrieve(request: web.Request) -> web.Response:
    """Handle GET /v1/videos/<id>."""
    job = await _requested(request)
    return _response(video_response(job, request.app[VIDEO_JOBS].progress(job)))


async def list_videos(request: web.Request) -> web.Response:
    """Handle GET /v1/videos."""
    jobs = request.app[VIDEO_JOBS]
    query = query_of(request, LIST_PARAMETERS)
    limit = parse_integer(query.get("limit", DEFAULT_LIMIT))
    if not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest("limit", f"must be from 1 to {MAX_LIMIT}, got {truncated_repr(query['limit'])}")
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("order", f"must be asc or desc, got {truncated_repr(order)}")
    owner = current_record().key_name
    found, has_more = await jobs.page(owner, query.get("after"), limit, ascending=order == "asc")
    return _response(
        VideoListResponse(
            data=[video_response(job, jobs.progress(job)) for job in found],
            first_id=found[0].id if found else None,
            last_id=found[-1].id if found else None,
            has_more=has_more,
        )
    )


async def delete(request: web.Request) -> web.Response:
    """Handle DELETE /v1/videos/<id>, which also cancels a job that has not ended."""
    job_id = request.match_info["video_id"]
    await request.app[VIDEO_JOBS].delete(job_id, current_record().key_name)
    return _response(VideoDeletedResponse(id=job_id))


async def content(request: web.Request) -> web.StreamResponse:
    """Handle GET /v1/videos/<id>/content. A client can request a range of the bytes of the file."""
    variant = query_of(request, CONTENT_PARAMETERS).get("variant", "video")
    if variant not in ("video", "latents"):
        raise InvalidRequest("variant", f"must be video or latents, got {truncated_repr(variant)}")
    job = await _requested(request)
    if job.status is not JobStatus.COMPLETED:
        raise NotFound("video_id", f"{truncated_repr(job.id)} has no content: {_reason(job)}")
    files = request.app[VIDEO_JOBS].files(job)
    path, media_type = (files.video, VIDEO_MEDIA_TYPE) if variant == "video" else (files.latents, LATENTS_MEDIA_TYPE)
    if not path.exists():
        raise NotFound("video_id", f"{truncated_repr(job.id)} has no content: its file was deleted")
    return web.FileResponse(
        path,
        headers={
            hdrs.CONTENT_TYPE: media_type,
            LATENT_MAP_HEADER: job.map_hash or "",
            MODEL_HEADER: header_value(job.model),
            SEED_HEADER: str(job.seed),
            hdrs.CACHE_CONTROL: "private, no-cache",
        },
    )


def _reason(job: VideoJob) -> str:
    if job.status is JobStatus.FAILED:
        error = video_response(job, 0).error
        return f"its generation failed ({error.message if error is not None else 'unknown error'})"
    return f"its status is {job.status}; GET {VIDEO_JOBS_PATH}/{job.id} returns its progress"


async def _requested(request: web.Request) -> VideoJob:
    return await request.app[VIDEO_JOBS].get(request.match_info["video_id"], current_record().key_name)


def _response(body: VideoResponse | VideoListResponse | VideoDeletedResponse) -> web.Response:
    return web.Response(
        text=body.model_dump_json(), content_type="application/json", headers={hdrs.CACHE_CONTROL: "no-store"}
    )
