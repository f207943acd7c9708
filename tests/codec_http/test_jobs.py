"""The job of a generation over HTTP: start, rejection, failure and cancellation."""

import asyncio
from typing import Any

from codec_wire import WireFormat
from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import IMAGES, LATENTS, read_error
from tests.support.serving import read_stream, run_servers


async def test_header_is_sent_when_the_generation_starts() -> None:
    engine = FakeEngine()
    async with run_servers(engine) as servers:
        response = await servers.http.post(IMAGES, json=LATENTS)
        first = await response.content.readany()
        assert b"latent_space_id" in first
        assert engine.finished == 0
        engine.release_steps(2)
        assert await response.content.read()


async def test_failure_after_the_header_is_reported_in_the_last_frame() -> None:
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


async def test_request_over_the_job_limit_returns_429_until_a_job_ends() -> None:
    engine = FakeEngine()
    async with run_servers(engine, max_jobs=2) as servers:
        running = [await servers.http.post(IMAGES, json=LATENTS) for _ in range(2)]
        rejected = await servers.http.post(IMAGES, json=LATENTS)
        assert rejected.status == 429
        assert int(rejected.headers["Retry-After"]) >= 1
        assert (await read_error(rejected))["type"] == "rate_limit_error"
        engine.release_steps(6)
        for response in running:
            assert await response.read()
        again = await servers.http.post(IMAGES, json=LATENTS)
        assert again.status == 200
        assert await again.read()


async def test_request_over_total_capacity_returns_413() -> None:
    async with run_servers(FakeEngine(), max_cost=64 * 64) as servers:
        response = await servers.http.post(IMAGES, json=LATENTS)
        assert response.status == 413
        assert "fewer steps" in (await read_error(response))["message"]


async def test_timeout_before_the_header_returns_504() -> None:
    class Stuck(FakeEngine):
        async def generate(self, plan: Any, job: Any) -> Any:
            await asyncio.Event().wait()
            yield

    async with run_servers(Stuck(), request_timeout_s=0.05) as servers:
        response = await servers.http.post(IMAGES, json=LATENTS)
        assert response.status == 504
        assert (await read_error(response))["code"] == "deadline_exceeded"
        assert servers.service.admission.jobs == 0


async def test_timeout_after_the_header_is_reported_in_the_last_frame() -> None:
    async with run_servers(FakeEngine(), request_timeout_s=0.2) as servers:
        response = await servers.http.post(IMAGES, json=LATENTS)
        _, frames = read_stream(await response.read(), WireFormat.MSGPACK)
        assert (frames[0].done, frames[0].finish_reason) == (True, "error")


async def test_disconnect_cancels_the_job() -> None:
    engine = FakeEngine()
    async with run_servers(engine) as servers:
        response = await servers.http.post(IMAGES, json=LATENTS | {"steps": 30})
        await engine.wait_until_started(1)
        response.close()
        await engine.wait_until_ended(1)
        assert engine.finished == 0
        assert servers.service.admission.jobs == 0
