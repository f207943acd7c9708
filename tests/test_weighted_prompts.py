"""The request field `prompt_syntax`: weighted and long prompts over both protocols, and prompts that are refused."""

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import torch
from compel import CompelForSD, CompelForSDXL

from codec_client import GrpcClient, HttpClient
from codec_pixels.device import Device
from codec_pixels.device_thread import DeviceThread
from codec_wire.http import PROMPT_TRUNCATED_HEADER
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.weighted_prompts import check_prompts
from tests.support.factories import load_from_factory
from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import IMAGES, read_error, request_latents
from tests.support.pipeline_pixels import bundle_with_dtype
from tests.support.serving import VIDEO_MODEL, Servers, http_address, run_http_gateway, run_servers
from tests.support.tiny_sd import build_pipeline
from tests.support.tiny_sdxl import build_sdxl
from tests.support.video_jobs import SMALL_VIDEO, VIDEO_JOBS, run_video_server

FIELDS: dict[str, Any] = {"size": "64x64", "steps": 3, "seed": 5, "stream_format": "msgpack"}
PROMPT = "a (sea)1.4 at dawn++, with (small (red boats)1.2)0.8. " * 3
NEGATIVE = "(fog)1.2"
COMPEL: dict[str, Any] = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "prompt_syntax": "compel"}


async def latents_of(http: Any, **fields: Any) -> Any:
    latents, headers = await request_latents(http, FIELDS | fields)
    parameters = json.loads(headers["Codec-Parameters"])
    assert parameters.get("prompt_syntax") == ("compel" if fields.get("prompt_syntax") == "compel" else None)
    assert (PROMPT_TRUNCATED_HEADER in headers) == (fields.get("prompt_syntax") != "compel")
    return latents


def direct_latents(build: Callable[[], Any], arguments_for: Callable[[Any], dict[str, Any]]) -> Any:
    pipeline = build()
    pipeline.set_progress_bar_config(disable=True)
    output = pipeline(
        **arguments_for(pipeline),
        width=64,
        height=64,
        num_inference_steps=3,
        generator=torch.Generator().manual_seed(5),
        output_type="latent",
    )
    return output.images[0].numpy()


def sd_arguments(pipeline: Any) -> dict[str, Any]:
    found = CompelForSD(pipeline)(PROMPT, negative_prompt=NEGATIVE)
    return {"prompt_embeds": found.embeds, "negative_prompt_embeds": found.negative_embeds}


def sdxl_arguments(pipeline: Any) -> dict[str, Any]:
    found = CompelForSDXL(pipeline)(PROMPT, negative_prompt=NEGATIVE)
    return {
        "prompt_embeds": found.embeds,
        "negative_prompt_embeds": found.negative_embeds,
        "pooled_prompt_embeds": found.pooled_embeds,
        "negative_pooled_prompt_embeds": found.negative_pooled_embeds,
    }


async def test_stable_diffusion_samples_the_embeddings_of_compel(
    fp32_servers: Servers, device_thread: DeviceThread
) -> None:
    # On the device thread, because the number of CPU threads changes the result.
    expected = device_thread.submit(direct_latents, build_pipeline, sd_arguments).result()
    np.testing.assert_array_equal(await latents_of(fp32_servers.http, **COMPEL), expected)


async def test_stable_diffusion_xl_samples_the_embeddings_of_compel(
    device: Device, device_thread: DeviceThread
) -> None:
    model = load_from_factory("tests.support.tiny_sdxl:build_sdxl", device)
    expected = device_thread.submit(direct_latents, build_sdxl, sdxl_arguments).result()
    engine = DiffusersEngine(model, device_thread)
    async with run_servers(engine, model.info, bundle=bundle_with_dtype(model, "fp32")) as running:
        np.testing.assert_array_equal(await latents_of(running.http, **COMPEL), expected)


async def test_plain_prompts_are_passed_to_the_pipeline(fp32_servers: Servers, device_thread: DeviceThread) -> None:
    def arguments(_pipeline: Any) -> dict[str, Any]:
        return {"prompt": PROMPT, "negative_prompt": NEGATIVE}

    expected = device_thread.submit(direct_latents, build_pipeline, arguments).result()
    for syntax in ({}, {"prompt_syntax": "plain"}, {"prompt_syntax": None}):
        found = await latents_of(fp32_servers.http, prompt=PROMPT, negative_prompt=NEGATIVE, **syntax)
        np.testing.assert_array_equal(found, expected)


async def test_gateway_and_clients_send_the_syntax(fp32_servers: Servers) -> None:
    expected = await latents_of(fp32_servers.http, **COMPEL)
    async with run_http_gateway(fp32_servers.grpc_address) as (_, gateway):
        np.testing.assert_array_equal(await latents_of(gateway, **COMPEL), expected)
        listed = [(await (await gateway.get(path)).json()) for path in ("/v1/models", "/codec/info")]
        assert [one["prompt_syntaxes"] for one in (listed[0]["data"][0], listed[1]["models"][0])] == [
            ["plain", "compel"]
        ] * 2
        response = await gateway.post(IMAGES, json=FIELDS | COMPEL | {"prompt": "a cat.swap(dog)"})
        assert (response.status, (await read_error(response))["param"]) == (400, "prompt")
    async with HttpClient(http_address(fp32_servers)) as http, GrpcClient(fp32_servers.grpc_address) as grpc:
        for client in (http, grpc):
            generation = await client.generate(
                PROMPT, size=(64, 64), steps=3, seed=5, negative_prompt=NEGATIVE, prompt_syntax="compel"
            )
            np.testing.assert_array_equal(generation.latents[0], expected)
            assert generation.parameters["prompt_syntax"] == "compel"


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"prompt_syntax": "a1111"}, "prompt_syntax", "must be 'plain' or 'compel', got 'a1111'"),
        ({"prompt_syntax": 1}, "prompt_syntax", "must be 'plain' or 'compel', got 1"),
        ({"prompt": "(" * 9 + "a" + ")" * 9}, "prompt", "must have at most 8 nested parentheses"),
        ({"prompt": "(" * 100_000}, "prompt", "must have at most 8192 characters"),
        ({"negative_prompt": "(" * 8192}, "negative_prompt", "must have at most 8 nested parentheses"),
        ({"negative_prompt": "a cat.swap(dog)"}, "negative_prompt", "must not contain .swap()"),
        ({"prompt": '("a", "b").and() c'}, "prompt", "Expected end of text"),
        ({"prompt": "a" * 601}, "prompt", "must have at most 8 chunks of 77 tokens, got 9"),
    ],
)
async def test_invalid_prompt_is_refused_before_the_stream_begins(
    fp32_servers: Servers, fields: dict[str, Any], field: str, message: str
) -> None:
    response = await fp32_servers.http.post(IMAGES, json=FIELDS | COMPEL | fields)
    error = await read_error(response)
    assert (response.status, error["param"]) == (400, field)
    assert message in error["message"]


async def test_literal_parentheses_may_be_nested(fp32_servers: Servers) -> None:
    await latents_of(fp32_servers.http, **COMPEL | {"prompt": r"\(" * 100 + "a" + r"\)" * 100})


@pytest.mark.slow
async def test_server_responds_while_it_parses_hostile_prompts(
    fp32_servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()

    def check(*arguments: Any) -> None:
        threads.add(threading.get_ident())
        check_prompts(*arguments)

    monkeypatch.setattr("core.diffusers_engine.engine.check_prompts", check)
    prompts = ("(a)1.1 " * 1170, '("a", "b").blend(1, 1) ' * 300, "(" + "a," * 4000 + ")")
    posts = [fp32_servers.http.post(IMAGES, json=FIELDS | COMPEL | {"prompt": prompt}) for prompt in prompts]
    hostile = asyncio.gather(*posts)
    while not hostile.done():
        assert (await fp32_servers.http.get("/livez")).status == 200
    assert [response.status for response in await hostile] == [400] * len(prompts)
    assert threads
    assert threading.get_ident() not in threads
    await latents_of(fp32_servers.http, **COMPEL)


async def test_video_job_keeps_the_syntax(tmp_path: Path) -> None:
    engine, model = FakeEngine(free_running=True), replace(VIDEO_MODEL, prompt_syntaxes=("plain", "compel"))
    async with run_video_server(engine, tmp_path, model=model) as server:
        created = await server.create(**COMPEL)
        form = aiohttp.FormData(
            {name: str(value) for name, value in (SMALL_VIDEO | COMPEL).items()}, default_to_multipart=True
        )
        response = await server.http.post(VIDEO_JOBS, data=form)
        assert response.status == 200, await response.text()
        for video in (created, await response.json()):
            await server.wait_for(video["id"], "completed")
    plans = [(plan.prompt_syntax, plan.prompt, plan.negative_prompt) for plan in engine.started]
    assert plans == [("compel", PROMPT, NEGATIVE)] * 2
