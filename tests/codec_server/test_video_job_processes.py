"""Video jobs of server processes with the embedded model: OpenAI's client, kill -9, restarts, and stored files."""

import base64
import time
from pathlib import Path
from typing import Any

import openai
import pytest
import requests
from openai.types import Video

from tests.support.processes import Addresses, Process, start_process

pytestmark = [
    pytest.mark.slow,
    # The package announces that OpenAI's own service will stop to serve its videos API.
    pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning"),
]

PARAMETERS: dict[str, Any] = {"steps": 4, "seed": 3}
SMALL: dict[str, Any] = {"prompt": "a sea", "seconds": "0.25", "size": "64x64", "extra_body": PARAMETERS}
BODY = {"prompt": "a sea", "duration_seconds": 0.25, "size": "64x64", **PARAMETERS}
"""The request SMALL for the endpoint of generations."""
WAIT_S = 60


def client_of(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def wait_for(client: openai.OpenAI, video: Video, *statuses: str) -> Video:
    """Return `video` as soon as its status is in `statuses`."""
    end = time.monotonic() + WAIT_S
    while video.status not in statuses:
        assert time.monotonic() < end, video
        time.sleep(0.05)
        video = client.videos.retrieve(video.id)
    return video


def latents_of(url: str, body: dict[str, Any]) -> bytes:
    response = requests.post(f"{url}/v1/videos/generations", json=body | {"stream_format": "msgpack"}, timeout=60)
    assert response.status_code == 200, response.text
    return response.content


def test_openai_client_gets_the_files_of_the_generation_endpoint(embedded_server: Addresses) -> None:
    with client_of(embedded_server.http) as client:
        video = client.videos.create(**SMALL)
        assert (video.object, video.size, video.seconds, video.status) == ("video", "64x64", "0.25", "queued")
        assert next(iter(client.videos.list(limit=1))).id == video.id
        video = wait_for(client, video, "completed", "failed")
        assert (video.status, video.progress, video.error) == ("completed", 100, None)
        mp4 = client.videos.download_content(video.id).content
        response = requests.post(f"{embedded_server.http}/v1/videos/generations", json=BODY, timeout=60)
        assert mp4 == base64.b64decode(response.json()["data"][0]["b64_json"])
        latents = client.videos.download_content(video.id, extra_query={"variant": "latents"}).content
        assert latents == latents_of(embedded_server.http, BODY)
        assert client.videos.delete(video.id).deleted
        with pytest.raises(openai.NotFoundError):
            client.videos.retrieve(video.id)
        with pytest.raises(openai.NotFoundError, match="'sora-2' not found"):
            client.videos.create(prompt="x", model="sora-2")
        with pytest.raises(openai.BadRequestError, match="seconds: must be at most"):
            client.videos.create(**SMALL | {"seconds": "1200"})
        with pytest.raises(openai.BadRequestError, match="input_reference: is not supported by"):
            client.videos.create(prompt="x", input_reference=("a.png", _png(), "image/png"))


def _png() -> bytes:
    return base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )


def server_on(folder: Path) -> Any:
    """Return a context manager that runs a server with the embedded model and three jobs in `folder`."""
    arguments = ["serve", "--port", "0", "--grpc-port", "0", "--threads", "1", "--max-video-jobs", "3"]
    return start_process(arguments, HF_HUB_OFFLINE="1", CODEC_DATA_DIR=str(folder))


def url_of(process: Process) -> str:
    url = process.wait_for(r"(http://127\.0\.0\.1:\d+)/v1/images").group(1)
    process.wait_for("Ready after")
    return url


def test_jobs_survive_kill_9(tmp_path: Path) -> None:
    long = SMALL | {"extra_body": PARAMETERS | {"steps": 24}}
    with server_on(tmp_path) as process, client_of(url_of(process)) as client:
        finished = wait_for(client, client.videos.create(**SMALL), "completed")
        mp4 = client.videos.download_content(finished.id).content
        running, queued = client.videos.create(**long), client.videos.create(**SMALL)
        with pytest.raises(openai.RateLimitError, match="3 video jobs are stored, but the limit is 3"):
            client.videos.create(**SMALL)
        while not (running := client.videos.retrieve(running.id)).progress:
            time.sleep(0.02)
        assert running.status == "in_progress"
        process.popen.kill()
        process.popen.wait()
    with server_on(tmp_path) as process, client_of(url_of(process)) as client:
        assert [video.id for video in client.videos.list(order="asc")] == [finished.id, running.id, queued.id]
        assert client.videos.retrieve(finished.id) == finished
        assert client.videos.download_content(finished.id).content == mp4
        for video in (running, queued):
            assert wait_for(client, video, "completed", "failed").status == "completed"
        assert client.videos.download_content(queued.id).content == mp4
        latents = client.videos.download_content(running.id, extra_query={"variant": "latents"}).content
        assert latents == latents_of(url_of(process), BODY | {"steps": 24})
        for video in (finished, running, queued):
            client.videos.delete(video.id)
        assert {path.name for path in (tmp_path / "videos").iterdir()} == {"lock", "jobs.sqlite3"}
