"""Keys of the application state that handlers use."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import web

from core.service import LatentService
from core.video_jobs.video_jobs import VideoJobs

SERVICE = web.AppKey("service", LatentService)
VIDEO_JOBS = web.AppKey("video_jobs", VideoJobs)
DOCUMENT: web.AppKey[dict[str, Any]] = web.AppKey("openapi_document", dict)
PUBLIC_URL = web.AppKey("public_url", str)
"""URL under which clients reach the server, or an empty string if the URL is not configured."""
REQUEST_TIMEOUT_S = web.AppKey("request_timeout_s", float)
BODY_PARSER = web.AppKey("body_parser", ThreadPoolExecutor)
"""The thread that parses large request bodies."""
