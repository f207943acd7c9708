"""A generation over HTTP as a job: when its header goes out, when it is refused, and what ends it."""

import asyncio
from typing import Any

from codec_wire import WireFormat
from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import IMAGES, LATENTS, read_error
from tests.support.serving import read_stream, run_servers


async def test_the_header_is_sent_when_generation_starts() -> None:
    engine = FakeEngine()
    async with run_servers(engine) as servers:
        response = await servers.http.post(IMAGES, json=LATENTS)
        first = await response.content.readany()
        assert b"latent_space_id" in first
        assert engine.finished == 0
        engine.release_steps(2)
        assert await response.content.read()


async def test_an_error_after_the_header_is_a_last_frame_that_says_so() -> None:
    engine = FakeEngine(free_running=True)
    engine.fail_with = RuntimeError("secret detail")
    async with run_servers(engine) as servers:
        response = await servers.http.post(IMAGES, json=LATENTS)
        body = await response.read()
        assert response.status == 200
        _, frames = read_stream(body, WireFormat.MSGPACK)
        assert (frames[0].data, frames[0].done, frames[0].finish_reason) == (b"", True, "error")
        assert b"secret" not in body
        engine.fail_with = None
        assert (await servers.http.post(IMAGES, json=LATENTS)).status == 200


async def test_overload_is_429_at_once_and_passes() -> None:
    engine = FakeEngine()
    async with run_servers(engine, max_jobs=2) as servers:
        running = [await servers.http.post(IMAGES, json=LATENTS) for _ in range(2)]
        refused = await servers.http.post(IMAGES, json=LATENTS)
        assert refused.status == 429
        assert int(refused.headers["Retry-After"]) >= 1
        assert (await read_error(refused))["type"] == "rate_limit_error"
        engine.release_steps(6)
        for response in running:
            assert await response.read()
        again = await servers.http.post(IMAGES, json=LATENTS)
        assert again.status == 200
        assert await again.read()


async def test_a_job_over_the_whole_house_is_413() -> None:
    async with run_servers(FakeEngine(), max_cost=64 * 64) as servers:
        response = await servers.http.post(IMAGES, json=LATENTS)
        assert response.status == 413
        assert "fewer steps" in (await read_error(response))["message"]


async def test_time_that_is_up_before_the_start_is_504() -> None:
    class Stuck(FakeEngine):
        async def generate(self, plan: Any, job: Any) -> Any:
            await asyncio.Event().wait()
            yield

    async with run_servers(Stuck(), request_timeout_s=0.05) as servers:
        response = await servers.http.post(IMAGES, json=LATENTS)
        assert response.status == 504
        assert (await read_error(response))["code"] == "deadline_exceeded"
        assert servers.service.admission.jobs == 0


async def test_a_client_that_leaves_frees_its_job_at_once() -> None:
    engine = FakeEngine()
    async with run_servers(engine) as servers:
        response = await servers.http.post(IMAGES, json=LATENTS | {"steps": 30})
        await engine.wait_until_started(1)
        response.close()
        await engine.wait_until_ended(1)
        assert engine.finished == 0
        assert servers.service.admission.jobs == 0
