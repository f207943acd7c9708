"""An OpenAI-style request is one job: it is admitted, cancelled and failed as a whole."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import aiohttp
import numpy as np
import pytest
import torch
from aiohttp import web

from codec_http.write_deadline import WriteDeadline
from codec_wire.errors import NotReady
from codec_wire.events import Started
from codec_wire.request import GenerationRequest
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from core.engine import Event, Job, Pixels
from core.plan import RENDERING_STEPS, StreamPlan
from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import IMAGES
from tests.support.rendering import BODY, RENDERING, post_json
from tests.support.serving import run_servers


async def test_all_images_of_a_request_are_one_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.admission.random.random", lambda: 0.0)  # of the random delay in Retry-After
    cost = 64 * 48 * (3 + RENDERING_STEPS)
    engine = FakeEngine()
    async with run_servers(engine, RENDERING, max_jobs=2, max_cost=2 * cost) as servers:
        too_many = await servers.http.post(IMAGES, json=BODY | {"n": 3})
        assert too_many.status == 413
        both = asyncio.create_task(servers.http.post(IMAGES, json=BODY | {"n": 2}))
        await engine.wait_until_started(1)
        assert servers.service.admission.jobs == 1
        full = await servers.http.post(IMAGES, json=BODY)
        assert (full.status, full.headers["Retry-After"]) == (429, "1")
        engine.release_steps(6)
        assert len((await (await both).json())["data"]) == 2
        assert [plan.seed for plan in engine.started] == [7, 8]
        assert servers.service.admission.jobs == 0


async def test_disconnect_cancels_the_job() -> None:
    engine = FakeEngine()
    async with run_servers(engine, RENDERING) as servers:
        response = asyncio.create_task(servers.http.post(IMAGES, json=BODY | {"n": 3}))
        await engine.wait_until_started(1)
        response.cancel()
        await engine.wait_until_ended(1)
        await asyncio.wait_for(servers.service.admission.wait_idle(), 10)
        assert (engine.finished, len(engine.started)) == (0, 1)


async def test_timeout_returns_504() -> None:
    engine = FakeEngine()
    async with run_servers(engine, RENDERING, request_timeout_s=0.2) as servers:
        response = await servers.http.post(IMAGES, json=BODY)
        assert response.status == 504
        assert servers.service.admission.jobs == 0
        assert engine.finished == 0


@pytest.mark.slow
async def test_connection_of_a_client_that_does_not_read_is_closed_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Noise(FakeEngine):
        """Engine whose pixels are incompressible noise, so that the response exceeds the socket buffers."""

        async def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
            yield Started(plan.header)
            shape = (1, plan.height, plan.width, 3)
            yield Pixels(np.random.default_rng(plan.seed).integers(0, 256, shape, dtype=np.uint8))

    def one_second(request: web.Request, response: web.StreamResponse, _job: Job) -> WriteDeadline:
        """Return a deadline one second after the response starts, however long the images take."""
        return WriteDeadline(request, response, Job(deadline=asyncio.get_running_loop().time() + 1.0))

    monkeypatch.setattr("codec_http.rendering.WriteDeadline", one_second)
    async with run_servers(Noise(), RENDERING) as servers:
        response = await servers.http.post(IMAGES, json=BODY | {"n": 6, "size": "1024x1024", "output_format": "jpeg"})
        assert response.status == 200
        assert int(response.headers["Content-Length"]) > 16 * 2**20
        assert servers.service.admission.jobs == 1  # the job stays active while the client reads
        await asyncio.wait_for(servers.service.admission.wait_idle(), 20)
        with pytest.raises(aiohttp.ClientError):
            await response.read()


async def test_cancellation_between_two_images_ends_the_job() -> None:
    async with run_servers(FakeEngine(free_running=True), RENDERING) as servers:
        service = servers.service
        plans = service.plan_rendered(GenerationRequest(prompt="x", size=(64, 64), steps=1), 2)
        rendered = service.render(plans, Job())
        async with aclosing(rendered):
            async for event in rendered:
                if isinstance(event, Pixels):
                    break
            service.cancel_all(lambda: NotReady("the server is shutting down", 5))
            with pytest.raises(NotReady):
                await anext(rendered)
        assert service.admission.jobs == 0


@pytest.mark.parametrize("fault", ["nan", "memory", "bug"])
async def test_failure_while_rendering_returns_an_error_and_the_next_request_succeeds(
    fault: str, engine: DiffusersEngine, tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any, **_options: Any) -> Any:
        if fault == "nan":
            return torch.full((1, 4, 6, 8), float("nan"))
        raise torch.OutOfMemoryError("secret") if fault == "memory" else RuntimeError("secret")

    target: tuple[str, Callable[..., Any]] = ("core.diffusers_engine.rendering.decode_latents", fail)
    if fault == "nan":
        target = ("core.diffusers_engine.engine.sample", fail)
    async with run_servers(engine, tiny_model.info) as servers:
        with monkeypatch.context() as patched:
            patched.setattr(*target)
            response = await servers.http.post(IMAGES, json=BODY)
            assert response.status == (503 if fault == "memory" else 500)
            assert "secret" not in await response.text()
        assert (await post_json(servers.http, BODY))["data"]
        assert servers.service.admission.jobs == 0
