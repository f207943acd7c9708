"""A generation over HTTP as a job: when its header goes out, when it is refused, and what ends it."""

import asyncio
from typing import Any

from codec_wire import WireFormat
from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import IMAGES, LATENTS, error_of
from tests.support.serving import read_stream, servers_over


async def test_the_header_is_sent_when_generation_starts() -> None:
    engine = FakeEngine()
    async with servers_over(engine) as servers:
        response = await servers.http.post(IMAGES, json=LATENTS)
        first = await response.content.readany()
        assert b"latent_space_id" in first
        assert engine.finished == 0
        engine.let_steps_go(2)
        assert await response.content.read()


async def test_an_error_after_the_header_is_a_last_frame_that_says_so() -> None:
    engine = FakeEngine(free_running=True)
    engine.fail_with = RuntimeError("secret detail")
    async with servers_over(engine) as servers:
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
    async with servers_over(engine, max_jobs=2) as servers:
        running = [await servers.http.post(IMAGES, json=LATENTS) for _ in range(2)]
        refused = await servers.http.post(IMAGES, json=LATENTS)
        assert refused.status == 429
        assert int(refused.headers["Retry-After"]) >= 1
        assert (await error_of(refused))["type"] == "rate_limit_error"
        engine.let_steps_go(6)
        for response in running:
            assert await response.read()
        again = await servers.http.post(IMAGES, json=LATENTS)
        assert again.status == 200
        assert await again.read()


async def test_a_job_over_the_whole_house_is_413() -> None:
    async with servers_over(FakeEngine(), max_cost=64 * 64) as servers:
        response = await servers.http.post(IMAGES, json=LATENTS)
        assert response.status == 413
        assert "fewer steps" in (await error_of(response))["message"]


async def test_time_that_is_up_before_the_start_is_504() -> None:
    class Stuck(FakeEngine):
        async def generate(self, plan: Any, job: Any) -> Any:
            await asyncio.Event().wait()
            yield

    async with servers_over(Stuck(), request_timeout_s=0.05) as servers:
        response = await servers.http.post(IMAGES, json=LATENTS)
        assert response.status == 504
        assert (await error_of(response))["code"] == "deadline_exceeded"
        assert servers.service.admission.jobs == 0


async def test_a_client_that_leaves_frees_its_job_at_once() -> None:
    engine = FakeEngine()
    async with servers_over(engine) as servers:
        response = await servers.http.post(IMAGES, json=LATENTS | {"steps": 30})
        await engine.until_started(1)
        response.close()
        await engine.until_closed(1)
        assert engine.finished == 0
        assert servers.service.admission.jobs == 0
