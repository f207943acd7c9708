"""Streamed images: events of OpenAI's API, partial images, and what ends a stream."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import numpy as np
import pytest

from codec_wire.latents import Modality
from codec_wire.server_sent_events import ServerSentEventReader
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from core.model import GenerationMode
from core.plan import RENDERING_STEPS
from tests.support.fake_engine import FakeEngine
from tests.support.held_sampler import WAIT_S, wait_for_device_thread, wait_until_cancelled, wait_until_no_jobs
from tests.support.http_requests import IMAGES, VIDEOS
from tests.support.rendering import BODY, RENDERING, RENDERING_VIDEO, image_pixels, post_json
from tests.support.serving import run_servers

STREAM = {"stream": True, "partial_images": 2}
MODEL = replace(RENDERING, modes=(GenerationMode(Modality.IMAGE, previews=True),))


async def received_events(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    reader = ServerSentEventReader()
    async for chunk in response.content.iter_any():
        for event in reader.feed(chunk):
            yield event


async def all_events(http: Any, body: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    response = await http.post(IMAGES, json=body)
    assert (response.status, response.content_type) == (200, "text/event-stream"), await response.text()
    return [event async for event in received_events(response)]


@pytest.mark.slow
@pytest.mark.parametrize("output_format", ["png", "webp"])
async def test_partial_images_approach_the_image_and_do_not_change_it(
    engine: DiffusersEngine, tiny_model: LoadedModel, output_format: str
) -> None:
    body = BODY | {"steps": 5, "output_format": output_format}
    async with run_servers(engine, tiny_model.info) as servers:
        expected = (await post_json(servers.http, body))["data"][0]
        events = await all_events(servers.http, body | {"stream": True, "partial_images": 3})
    names = ["image_generation.partial_image"] * 3 + ["image_generation.completed"]
    assert [name for name, _ in events] == [data["type"] for _, data in events] == names
    final = events[-1][1]
    assert (final["b64_json"], final["seed"]) == (expected["b64_json"], expected["seed"])
    assert [data["partial_image_index"] for _, data in events[:-1]] == [0, 1, 2]
    images = [image_pixels(data).astype(float) for _, data in events]
    distances = [float(np.abs(image - images[-1]).mean()) for image in images]
    assert distances == sorted(distances, reverse=True)
    assert distances[-2] > 0


async def test_images_of_one_request_are_sent_one_after_the_other() -> None:
    async with run_servers(FakeEngine(free_running=True), MODEL) as servers:
        files = (await post_json(servers.http, BODY | {"n": 2}))["data"]
        events = await all_events(servers.http, BODY | STREAM | {"n": 2})
        kinds = [(name.rpartition(".")[2], data.get("partial_image_index"), data["seed"]) for name, data in events]
        assert kinds == [
            (kind, index, seed)
            for seed in (7, 8)
            for kind, index in (("partial_image", 0), ("partial_image", 1), ("completed", None))
        ]
        completed = [data["b64_json"] for name, data in events if name == "image_generation.completed"]
        assert completed == [file["b64_json"] for file in files]
        assert len(await all_events(servers.http, BODY | {"stream": True})) == 1


async def test_request_with_few_steps_has_one_partial_image_for_each_but_the_last() -> None:
    async with run_servers(FakeEngine(free_running=True), MODEL) as servers:
        for steps, expected in ((1, 0), (2, 1), (3, 2), (4, 3), (5, 3)):
            events = await all_events(servers.http, BODY | {"stream": True, "partial_images": 3, "steps": steps})
            assert len(events) == expected + 1


async def test_decoding_of_partial_images_counts_for_admission() -> None:
    cost = 64 * 48 * (3 + 3 * RENDERING_STEPS)
    async with run_servers(FakeEngine(free_running=True), MODEL, max_cost=cost) as servers:
        assert len(await all_events(servers.http, BODY | STREAM)) == 3
        response = await servers.http.post(IMAGES, json=BODY | STREAM | {"partial_images": 3})
        assert response.status == 413


async def test_disconnect_between_steps_cancels_the_job() -> None:
    engine = FakeEngine()
    async with run_servers(engine, MODEL) as servers:
        response = await servers.http.post(IMAGES, json=BODY | STREAM)  # the header is sent before the first step
        engine.release_steps(1)
        name, _ = await anext(received_events(response))
        assert name == "image_generation.partial_image"
        response.close()
        await engine.wait_until_ended(1)
        await wait_until_no_jobs(servers)
        assert engine.finished == 0


@pytest.mark.slow
async def test_disconnect_stops_the_decoding_of_a_partial_image(
    engine: DiffusersEngine, tiny_model: LoadedModel
) -> None:
    loop, reached, released = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    calls: list[str] = []

    def hold(*_arguments: object) -> None:
        calls.append("first layer")
        loop.call_soon_threadsafe(reached.set)
        assert released.wait(WAIT_S)

    pipeline = tiny_model.pipeline
    hooks = [
        pipeline.unet.register_forward_pre_hook(lambda *_: calls.append("unet")),
        pipeline.vae.decoder.conv_in.register_forward_pre_hook(hold),
        pipeline.vae.decoder.conv_out.register_forward_pre_hook(lambda *_: calls.append("last layer")),
    ]
    try:
        async with run_servers(engine, tiny_model.info) as servers:
            response = await servers.http.post(IMAGES, json=BODY | STREAM)
            await reached.wait()
            response.close()
            await wait_until_cancelled(servers)
            released.set()
            await wait_until_no_jobs(servers)
            await wait_for_device_thread(engine)
    finally:
        released.set()
        for hook in hooks:
            hook.remove()
    assert calls == ["unet", "first layer"]


async def test_failure_after_the_header_is_the_event_error() -> None:
    engine = FakeEngine()
    async with run_servers(engine, MODEL) as servers:
        response = await servers.http.post(IMAGES, json=BODY | STREAM)
        engine.release_steps(1)
        events = received_events(response)
        await anext(events)
        engine.fail_with = RuntimeError("secret")
        engine.release_steps(1)
        rest = [event async for event in events]
        assert [name for name, _ in rest] == ["error"]
        assert (rest[0][1]["type"], rest[0][1]["error"]["code"]) == ("error", "internal")
        assert "secret" not in json.dumps(rest)
        assert servers.service.admission.jobs == 0


async def test_deadline_after_the_header_is_the_event_error() -> None:
    engine = FakeEngine()
    async with run_servers(engine, MODEL, request_timeout_s=0.3) as servers:
        (event,) = await all_events(servers.http, BODY | STREAM)
        assert (event[0], event[1]["error"]["code"]) == ("error", "deadline_exceeded")
        await wait_until_no_jobs(servers)
        assert engine.finished == 0


async def test_failure_before_the_header_is_an_error_response() -> None:
    async with run_servers(FakeEngine(), MODEL, max_cost=1) as servers:
        response = await servers.http.post(IMAGES, json=BODY | STREAM)
        assert (response.status, response.content_type) == (413, "application/json")


async def test_rendered_videos_are_not_streamed() -> None:
    async with run_servers(FakeEngine(), RENDERING_VIDEO) as servers:
        response = await servers.http.post(VIDEOS, json={"prompt": "x", "stream": True})
        assert (response.status, (await response.json())["error"]["param"]) == (400, "stream")
