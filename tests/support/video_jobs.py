"""An HTTP server with video jobs in a folder of the test, and requests to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp

from codec_http.server import HttpServer, start_http_server
from core.admission import Admission
from core.api_keys import ApiKeys
from core.engine import Engine
from core.lifecycle import Lifecycle, State
from core.model import ModelInfo
from core.served import ModelInstance
from core.service import LatentService
from core.video_jobs.job import JobLimits
from core.video_jobs.video_jobs import VideoJobs
from tests.support.fake_vae import FakeVae
from tests.support.serving import VIDEO_MODEL, bundle_of, plain_session

VIDEO_JOBS = "/v1/videos"
SMALL_VIDEO: dict[str, Any] = {"prompt": "a sea", "size": "64x48", "frames": 3, "fps": 6, "steps": 2}
WAIT_S = 20
"""Time after which a wait for a job fails the test."""


@dataclass(frozen=True, slots=True)
class VideoServer:
    """A running HTTP server with its service, the store's folder, and a session connected to the server."""

    service: LatentService
    server: HttpServer
    folder: Path
    http: aiohttp.ClientSession

    async def create(self, **changes: Any) -> dict[str, Any]:
        """Create a job for SMALL_VIDEO with these changes, and return its description."""
        response = await self.http.post(VIDEO_JOBS, json=SMALL_VIDEO | changes)
        assert response.status == 200, await response.text()
        created: dict[str, Any] = await response.json()
        return created

    async def get(self, video_id: str) -> dict[str, Any]:
        """Return the description of a job."""
        response = await self.http.get(f"{VIDEO_JOBS}/{video_id}")
        assert response.status == 200, await response.text()
        found: dict[str, Any] = await response.json()
        return found

    async def wait_for(self, video_id: str, *statuses: str) -> dict[str, Any]:
        """Return the description of a job as soon as its status is in `statuses`."""
        async with asyncio.timeout(WAIT_S):
            while (video := await self.get(video_id))["status"] not in statuses:
                await asyncio.sleep(0.01)
        return video

    def stored_files(self) -> set[str]:
        """Return the names of the files of jobs."""
        return {path.name for path in self.folder.glob("video_*")}


@asynccontextmanager
async def run_video_server(
    engine: Engine,
    data_dir: Path | None,
    *,
    model: ModelInfo = VIDEO_MODEL,
    limits: JobLimits | None = None,
    max_jobs: int = 32,
    timeout_s: float = 60,
    api_keys: ApiKeys | None = None,
) -> AsyncIterator[VideoServer]:
    """Run an HTTP server for `engine` and a VAE that decodes to grey frames, with video jobs in `data_dir`.

    Without `data_dir`, the jobs are stored in a temporary directory.
    """
    service = LatentService(Lifecycle(), Admission(max_jobs, 10**12))
    instance = ModelInstance(
        replace(model, renders=True), bundle_of(model), engine, "test device", vae=FakeVae(free_running=True)
    )
    service.models.replace([instance])
    service.lifecycle.transition_to(State.SERVING)
    jobs = VideoJobs(service, timeout_s, limits, data_dir)
    await jobs.start()
    server = await start_http_server(service, "127.0.0.1", 0, timeout_s, api_keys=api_keys, video_jobs=jobs)
    try:
        async with plain_session(server.port) as session:
            yield VideoServer(service, server, (data_dir or Path()) / "videos", session)
    finally:
        await server.stop()
