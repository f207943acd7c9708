"""The videos API: jobs, their fields and limits, cancellation, API keys, and a server that is busy or stops."""

import asyncio
import base64
import hashlib
import io
import logging
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import openai
import pytest
from PIL import Image

from codec_server.runner import drain
from codec_wire import WireFormat
from codec_wire.errors import InvalidLatents, OutOfMemory
from codec_wire.latents import Modality
from core.api_keys import ApiKeys
from core.metrics_text import metrics_text
from core.model import GenerationMode
from core.video_jobs.job import JobLimits
from tests.support.fake_engine import FakeEngine
from tests.support.fake_vae import FakeVae
from tests.support.ffmpeg import read_comment, read_frames
from tests.support.http_requests import VIDEOS, read_error
from tests.support.rendering import RENDERING_VIDEO
from tests.support.serving import VIDEO_MODEL, read_stream, run_http_gateway, run_servers
from tests.support.video_jobs import SMALL_VIDEO, VIDEO_JOBS, run_video_server

IMAGE_MODEL = replace(VIDEO_MODEL, modes=(GenerationMode(Modality.VIDEO, image=True),))


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(file, "PNG")
    return file.getvalue()


async def test_job_generates_a_video_and_its_latents(tmp_path: Path) -> None:
    engine = FakeEngine()
    async with run_video_server(engine, tmp_path) as server:
        created = await server.create(seed=7)
        assert created == {
            "id": created["id"],
            "object": "video",
            "model": "tiny-sd-video",
            "status": "queued",
            "progress": 0,
            "created_at": created["created_at"],
            "completed_at": None,
            "expires_at": None,
            "prompt": "a sea",
            "seconds": "0.5",
            "size": "64x48",
            "remixed_from_video_id": None,
            "error": None,
            "seed": 7,
            "frames": 3,
            "fps": 6,
        }
        content = f"{VIDEO_JOBS}/{created['id']}/content"
        await engine.wait_until_started(1)
        response = await server.http.get(content)
        assert response.status == 404
        assert "has no content: its status is in_progress" in (await read_error(response))["message"]
        engine.release_steps(1)
        async with asyncio.timeout(10):
            while not (video := await server.get(created["id"]))["progress"]:
                await asyncio.sleep(0.01)
        assert (video["status"], video["progress"]) == ("in_progress", 25)  # decoding counts as two steps
        engine.release_steps(1)
        video = await server.wait_for(created["id"], "completed")
        assert (video["progress"], video["expires_at"] - video["completed_at"]) == (100, 24 * 60 * 60)
        response = await server.http.get(content)
        assert (response.status, response.content_type) == (200, "video/mp4")
        path = tmp_path / "downloaded.mp4"
        path.write_bytes(await response.read())
        assert np.abs(read_frames(path, 64, 48).astype(int) - 128).max() <= 2
        comment = read_comment(path)
        assert (comment["prompt"], comment["seed"], comment["frames"]) == ("a sea", 7, 3)
        response = await server.http.get(content, params={"variant": "latents"})
        assert (response.content_type, response.headers["Codec-Seed"]) == ("application/x-msgpack", "7")
        stream = await response.read()
        header, frames = read_stream(stream, WireFormat.MSGPACK)
        assert (header.fps, header.pipeline, len(frames)) == (6, "raw", 3)
        part = await server.http.get(content, params={"variant": "latents"}, headers={"Range": "bytes=10-19"})
        assert (part.status, await part.read()) == (206, stream[10:20])
        engine.release_steps(2)
        latents = SMALL_VIDEO | {"seed": 7, "stream_format": "msgpack"}
        assert await (await server.http.post(VIDEOS, json=latents)).read() == stream


async def test_form_has_the_fields_of_json_and_files(tmp_path: Path) -> None:
    engine = FakeEngine(free_running=True)
    async with run_video_server(engine, tmp_path, model=IMAGE_MODEL) as server:
        form = aiohttp.FormData({"prompt": "12", "seconds": "0.5", "size": "64x48", "fps": "6", "steps": "2"})
        form.add_field("input_reference", png(), filename="a.png", content_type="image/png")
        response = await server.http.post(VIDEO_JOBS, data=form)
        assert response.status == 200, await response.text()
        video = await response.json()
        assert (video["prompt"], video["frames"], video["fps"]) == ("12", 3, 6)
        assert server.stored_files()
        await server.wait_for(video["id"], "completed")
        (plan,) = engine.started
        assert (plan.steps, plan.image.data if plan.image else None) == (2, png())
        assert server.stored_files() == {f"{video['id']}.latents", f"{video['id']}.mp4"}


@pytest.mark.parametrize(
    ("changes", "param", "message"),
    [
        ({"model": "sora-2"}, "model", "'sora-2' not found; this server serves tiny-sd-video"),
        ({"seconds": "60", "frames": None}, "seconds", "must be at most 30 at 24 fps, got 60"),
        ({"seconds": "x"}, "seconds", "got 'x'"),
        ({"seconds": "nan"}, "seconds", "nan"),
        ({"seconds": 4}, "seconds", "must not be combined with frames"),
        ({"size": "721x1280"}, "size", "multiples of 8"),
        ({"frames": 10**6}, "frames", "at most 720"),
        ({"frames": 700, "size": "2048x2048"}, None, "the limit for rendering is"),
        ({"pipeline": "int8"}, "pipeline", "requests for latents (POST /v1/videos/generations)"),
        ({"n": 2}, "n", "is not a field of a request"),
        ({"prompt": ""}, "prompt", "at least 1 character"),
        ({"input_reference": {"file_id": "f"}}, "input_reference", "this server stores none"),
        ({"input_reference": {"image_url": "https://x/y.png"}}, "input_reference", "this server downloads no files"),
        ({"input_reference": {"image_url": "data:image/png;base64,QUJD"}}, "input_reference", "PNG, JPEG or WebP"),
        ({"modality": "image-latents"}, "modality", "video"),
    ],
)
async def test_request_that_does_not_fit_is_refused_without_a_job(
    changes: dict[str, Any], param: str | None, message: str, tmp_path: Path
) -> None:
    body = {name: value for name, value in (SMALL_VIDEO | {"fps": 24} | changes).items() if value is not None}
    async with run_video_server(FakeEngine(), tmp_path) as server:
        response = await server.http.post(VIDEO_JOBS, json=body)
        error = await read_error(response)
        assert response.status in (400, 404, 413), error
        assert (error["param"], message in error["message"]) == (param, True), error
        assert (await (await server.http.get(VIDEO_JOBS)).json())["data"] == []
        assert not server.stored_files()


async def test_other_content_types_are_refused(tmp_path: Path) -> None:
    async with run_video_server(FakeEngine(), tmp_path) as server:
        response = await server.http.post(VIDEO_JOBS, data=b"{}", headers={"Content-Type": "text/plain"})
        assert response.status == 415
        assert "application/json or multipart/form-data" in (await read_error(response))["message"]


async def test_jobs_beyond_the_limit_are_refused_before_the_body_is_read(tmp_path: Path) -> None:
    engine = FakeEngine()
    async with run_video_server(engine, tmp_path, limits=JobLimits(max_jobs=2)) as server:
        ids = [(await server.create())["id"] for _ in range(2)]
        response = await server.http.post(VIDEO_JOBS, data=b"not JSON", headers={"Content-Type": "application/json"})
        error = await read_error(response)
        assert (response.status, error["code"]) == (429, "overloaded")
        assert "2 video jobs are stored, but the limit is 2" in error["message"]
        assert int(response.headers["Retry-After"]) >= 1
        assert (await server.http.delete(f"{VIDEO_JOBS}/{ids[1]}")).status == 200
        await server.create()
        assert len(engine.started) == 1


async def test_disk_space_is_bounded(tmp_path: Path) -> None:
    engine = FakeEngine(free_running=True)
    limits = JobLimits(max_bytes=200_000)
    async with run_video_server(engine, tmp_path, limits=limits) as server:
        response = await server.http.post(VIDEO_JOBS, json=SMALL_VIDEO | {"frames": 700})
        assert response.status == 413
        created = []
        for _ in range(100):
            response = await server.http.post(VIDEO_JOBS, json=SMALL_VIDEO)
            if response.status == 429:
                break
            created.append((await response.json())["id"])
            await server.wait_for(created[-1], "completed")
            assert sum(path.stat().st_size for path in server.folder.glob("video_*")) < limits.max_bytes
        assert "the stored videos occupy" in (await read_error(response))["message"]
        assert len(created) > 5  # a completed job needs less than it reserved
        await server.http.delete(f"{VIDEO_JOBS}/{created[0]}")
        for video_id in created[1:]:
            await server.http.delete(f"{VIDEO_JOBS}/{video_id}")
        await server.create()


async def test_expired_video_is_deleted_without_a_request(tmp_path: Path) -> None:
    async with run_video_server(FakeEngine(free_running=True), tmp_path, limits=JobLimits(expiry_s=1)) as server:
        video = await server.create()
        await server.wait_for(video["id"], "completed")
        async with asyncio.timeout(20):
            while server.stored_files():
                await asyncio.sleep(0.05)
        assert (await server.http.get(f"{VIDEO_JOBS}/{video['id']}")).status == 404
        assert (await server.http.get(f"{VIDEO_JOBS}/{video['id']}/content")).status == 404


async def test_deleting_a_job_cancels_it_within_one_step(tmp_path: Path) -> None:
    engine = FakeEngine()
    async with run_video_server(engine, tmp_path) as server:
        running, queued = (await server.create())["id"], (await server.create())["id"]
        await engine.wait_until_started(1)
        for video_id in (queued, running):
            response = await server.http.delete(f"{VIDEO_JOBS}/{video_id}")
            assert await response.json() == {"id": video_id, "object": "video.deleted", "deleted": True}
            assert (await server.http.delete(f"{VIDEO_JOBS}/{video_id}")).status == 404
        await engine.wait_until_ended(1)
        await asyncio.wait_for(server.service.admission.wait_idle(), 10)
        assert (len(engine.started), engine.finished) == (1, 0)
        assert not server.stored_files()


async def test_failure_is_reported_in_the_job(tmp_path: Path) -> None:
    engine = FakeEngine(free_running=True)
    async with run_video_server(engine, tmp_path) as server:
        internal = ("internal", "internal error; the server's log has the reason")
        for failure, expected in (
            (RuntimeError("secret"), internal),
            (InvalidLatents("NaN"), internal),
            (OutOfMemory("the device has too little memory"), ("out_of_memory", "the device has too little memory")),
        ):
            engine.fail_with = failure
            video = await server.wait_for((await server.create())["id"], "failed")
            assert (video["error"]["code"], video["error"]["message"]) == expected
            response = await server.http.get(f"{VIDEO_JOBS}/{video['id']}/content")
            assert (response.status, "its generation failed" in await response.text()) == (404, True)
        assert not server.stored_files()


async def test_job_that_takes_too_long_fails(tmp_path: Path) -> None:
    async with run_video_server(FakeEngine(), tmp_path, timeout_s=0.2) as server:
        video = await server.wait_for((await server.create())["id"], "failed")
        assert video["error"] == {"code": "deadline_exceeded", "message": "deadline exceeded", "param": None}


async def test_job_waits_while_other_requests_use_the_device(tmp_path: Path) -> None:
    engine = FakeEngine()
    async with run_video_server(engine, tmp_path, max_jobs=1) as server:
        latents = {**SMALL_VIDEO, "stream_format": "msgpack"}
        other = asyncio.create_task(server.http.post(VIDEOS, json=latents))
        await engine.wait_until_started(1)
        video = await server.create()
        await asyncio.sleep(0.1)
        assert (await server.get(video["id"]))["status"] == "queued"
        engine.release_steps(4)
        assert (await other).status == 200
        await server.wait_for(video["id"], "completed")


async def test_videos_are_visible_only_with_the_key_that_created_them(tmp_path: Path) -> None:
    lines = [f"{name} sha256:{hashlib.sha256(name.encode()).hexdigest()}\n" for name in ("alice", "bob")]
    (tmp_path / "keys").write_text("".join(lines))
    engine = FakeEngine(free_running=True)
    async with run_video_server(engine, tmp_path, api_keys=ApiKeys(None, tmp_path / "keys")) as server:
        alice, bob = ({"Authorization": f"Bearer {name}"} for name in ("alice", "bob"))
        response = await server.http.post(VIDEO_JOBS, json=SMALL_VIDEO, headers=alice)
        path = f"{VIDEO_JOBS}/{(await response.json())['id']}"
        for method, url in (("GET", path), ("DELETE", path), ("GET", f"{path}/content")):
            assert (await server.http.request(method, url, headers=bob)).status == 404
            assert (await server.http.request(method, url)).status == 401
        for key, count in ((alice, 1), (bob, 0)):
            listed = await (await server.http.get(VIDEO_JOBS, headers=key)).json()
            assert len(listed["data"]) == count
        assert (await server.http.get(path, headers=alice)).status == 200
        assert (await server.http.delete(path, headers=alice)).status == 200


async def test_list_has_pages(tmp_path: Path) -> None:
    async with run_video_server(FakeEngine(), tmp_path) as server:
        ids = [(await server.create())["id"] for _ in range(5)]
        for order, expected in (("asc", ids), ("desc", ids[::-1])):
            found: list[str] = []
            query: dict[str, str | int] = {"limit": 2, "order": order}
            while True:
                page = await (await server.http.get(VIDEO_JOBS, params=query)).json()
                found += [video["id"] for video in page["data"]]
                assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
                if not page["has_more"]:
                    break
                query["after"] = page["last_id"]
            assert found == expected
        for name, value in (("limit", "0"), ("limit", "101"), ("limit", "x"), ("order", "up"), ("after", "video_0")):
            response = await server.http.get(VIDEO_JOBS, params={name: value})
            assert (response.status, (await read_error(response))["param"]) == (400, name)


async def test_content_has_only_known_variants(tmp_path: Path) -> None:
    async with run_video_server(FakeEngine(), tmp_path) as server:
        video = await server.create()
        response = await server.http.get(f"{VIDEO_JOBS}/{video['id']}/content", params={"variant": "thumbnail"})
        assert "variant: must be video or latents, got 'thumbnail'" in await response.text()


async def test_stopped_server_finishes_the_running_job_and_keeps_the_queue(tmp_path: Path) -> None:
    engine = FakeEngine()
    async with run_video_server(engine, tmp_path) as server:
        running, queued = (await server.create())["id"], (await server.create())["id"]
        await engine.wait_until_started(1)
        draining = asyncio.create_task(drain(server.service, 30, []))
        await asyncio.sleep(0)
        engine.release_steps(2)
        await draining
        assert (await server.wait_for(running, "completed"))["status"] == "completed"
        assert (await server.get(queued))["status"] == "queued"
        assert (await server.http.post(VIDEO_JOBS, json=SMALL_VIDEO)).status == 503
    async with run_video_server(FakeEngine(free_running=True), tmp_path) as server:
        assert (await server.get(running))["status"] == "completed"
        await server.wait_for(queued, "completed")


async def test_job_that_is_cancelled_by_a_stop_runs_after_the_next_start(tmp_path: Path) -> None:
    engine = FakeEngine()
    for attempt in range(1, 4):  # more often than a job whose process is killed
        async with run_video_server(engine, tmp_path) as server:
            if attempt == 1:
                video = await server.create()
            await engine.wait_until_started(attempt)
            await drain(server.service, 0.01, [])
            assert (await server.wait_for(video["id"], "queued"))["error"] is None
    async with run_video_server(FakeEngine(free_running=True), tmp_path) as server:
        await server.wait_for(video["id"], "completed")


async def test_queued_job_of_a_model_that_is_no_longer_served_fails(tmp_path: Path) -> None:
    async with run_video_server(FakeEngine(), tmp_path) as server:
        await server.create()
        video = await server.create()
    other = replace(VIDEO_MODEL, name="other", latent_space="other/vae")
    async with run_video_server(FakeEngine(free_running=True), tmp_path, model=other) as server:
        error = (await server.wait_for(video["id"], "failed"))["error"]
        assert (error["code"], error["param"]) == ("not_found", "model")
        assert "'tiny-sd-video' not found; this server serves other" in error["message"]


async def test_job_is_logged_and_counted_with_the_id_of_its_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with run_video_server(FakeEngine(free_running=True), tmp_path) as server:
        with caplog.at_level(logging.INFO):
            response = await server.http.post(VIDEO_JOBS, json=SMALL_VIDEO, headers={"X-Request-Id": "my-request"})
            video = await server.wait_for((await response.json())["id"], "completed")
            await asyncio.wait_for(server.service.admission.wait_idle(), 10)
        (line,) = [text for text in caplog.messages if text.startswith("jobs ")]
        assert line.startswith(f"jobs video {video['id']} completed ok request_id=my-request operation=render")
        text = metrics_text(server.service).decode()
        assert 'codec_video_jobs{status="completed"} 1.0' in text
        assert 'codec_requests_total{coding="unknown",modality="video",operation="render",outcome="ok"' in text
        assert "codec_video_job_bytes 0.0" not in text


@pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")
async def test_openai_client_sends_an_image_as_a_file_or_as_a_data_url(tmp_path: Path) -> None:
    engine = FakeEngine(free_running=True)
    # Larger than the text of a form may be otherwise.
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    async with (
        run_video_server(engine, tmp_path, model=IMAGE_MODEL) as server,
        openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{server.server.port}/v1", api_key="none") as client,
    ):
        fields: dict[str, Any] = {"prompt": "a sea", "seconds": "0.5", "size": "64x48"}
        extra = {"fps": 6, "steps": 2}
        image = ("a.png", file.getvalue(), "image/png")
        videos = [
            await client.videos.create(input_reference=image, extra_body=extra, **fields),
            await client.videos.create(extra_body=extra | {"input_reference": {"image_url": url}}, **fields),
        ]
        ids = [video.id for video in videos]
        ids += [(await server.create(input_reference=reference))["id"] for reference in (url, {"image_url": url})]
        for video_id in ids:
            await server.wait_for(video_id, "completed")
        assert [plan.image.data for plan in engine.started if plan.image] == [file.getvalue()] * 4
        with pytest.raises(openai.BadRequestError, match="image: is required by tiny-sd-video"):
            await client.videos.create(**fields)


async def test_jobs_without_a_data_directory_are_deleted_when_the_server_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with run_video_server(FakeEngine(free_running=True), None) as server:
        listed = await (await server.http.get(VIDEO_JOBS)).json()
        assert listed == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
        assert (await server.http.get(f"{VIDEO_JOBS}/video_0")).status == 404
        assert (await server.http.delete(f"{VIDEO_JOBS}/video_0")).status == 404
        assert not list(tmp_path.iterdir())
        video = await server.create()
        await server.wait_for(video["id"], "completed")
        assert len(list(tmp_path.glob("codec-diffusers-*/videos/video_*"))) == 2
    assert not list(tmp_path.iterdir())


async def test_missing_temporary_directory_names_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    async with run_video_server(FakeEngine(), None) as server:
        response = await server.http.post(VIDEO_JOBS, json=SMALL_VIDEO)
        error = await read_error(response)
        assert (response.status, error["code"]) == (503, "out_of_storage")
        assert "set CODEC_DATA_DIR (--data-dir) to a directory in which the server may write" in error["message"]


async def test_server_without_a_vae_refuses_jobs() -> None:
    async with run_servers(FakeEngine(), replace(VIDEO_MODEL, renders=True)) as servers:
        response = await servers.http.post(VIDEO_JOBS, json=SMALL_VIDEO)
        assert (response.status, (await read_error(response))["code"]) == (415, "unsupported_modality")


async def test_gateway_generates_and_decodes_on_its_upstream_server(tmp_path: Path) -> None:
    engine, vae = FakeEngine(free_running=True), FakeVae(free_running=True)
    async with (
        run_servers(engine, RENDERING_VIDEO, vae=vae) as servers,
        run_http_gateway(servers.grpc_address) as (_, http),
    ):
        response = await http.post(VIDEO_JOBS, json=SMALL_VIDEO | {"seed": 7})
        assert response.status == 200, await response.text()
        path = f"{VIDEO_JOBS}/{(await response.json())['id']}"
        async with asyncio.timeout(20):
            while (video := await (await http.get(path)).json())["status"] != "completed":
                assert video["status"] != "failed", video
                await asyncio.sleep(0.02)
        file = tmp_path / "video.mp4"
        file.write_bytes(await (await http.get(f"{path}/content")).read())
        assert read_comment(file)["seed"] == 7
        latents = await (await http.get(f"{path}/content", params={"variant": "latents"})).read()
        assert len(read_stream(latents, WireFormat.MSGPACK)[1]) == 3
        assert [plan.seed for plan in engine.started] == [7]
