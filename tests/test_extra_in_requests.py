"""The request field `extra` over both protocols, a gateway and the clients, and in fast mode."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import torch

from codec_client import GrpcClient, HttpClient
from codec_pixels.device_thread import DeviceThread
from codec_wire.extra import ExtraParameters
from codec_wire.latents import Modality
from codec_wire.request import parse_request
from core.diffusers_engine.batch import batch_key
from core.diffusers_engine.clip_layers import with_text_model
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.sampler import sample
from core.engine import Job
from core.extra_field import ExtraField
from core.guidance_interval import GuidanceInterval
from core.model import GenerationMode
from core.plan import plan
from tests.support.fake_engine import FakeEngine
from tests.support.ffmpeg import read_comment
from tests.support.http_requests import IMAGES, read_error, request_latents
from tests.support.pipeline_pixels import bundle_with_dtype
from tests.support.serving import VIDEO_MODEL, Servers, http_address, run_http_gateway
from tests.support.tiny_sd import build_pipeline
from tests.support.video_jobs import VIDEO_JOBS, run_video_server

FIELDS: dict[str, Any] = {"prompt": "a sea", "size": "64x64", "steps": 4, "seed": 5, "stream_format": "msgpack"}
EXTRA = {"guidance_rescale": 0.5, "clip_skip": 1}


async def latents_of(http: Any, **fields: Any) -> Any:
    latents, headers = await request_latents(http, FIELDS | fields)
    assert json.loads(headers["Codec-Parameters"]).get("extra") == fields.get("extra")
    return latents


def expected_latents(**arguments: Any) -> Any:
    pipeline = build_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    with with_text_model(pipeline):
        output = pipeline(
            "a sea",
            width=64,
            height=64,
            num_inference_steps=4,
            generator=torch.Generator().manual_seed(5),
            output_type="latent",
            **arguments,
        )
    return output.images[0].numpy()


async def test_protocols_gateway_and_clients_return_the_latents_of_the_pipeline(
    fp32_servers: Servers, device_thread: DeviceThread
) -> None:
    # On the device thread, because the number of CPU threads changes the result.
    default, expected = (device_thread.submit(expected_latents, **one).result() for one in ({}, EXTRA))
    assert np.abs(default - expected).max() > 1e-3
    async with run_http_gateway(fp32_servers.grpc_address) as (_, gateway):
        for http in (fp32_servers.http, gateway):
            for _ in range(2):  # the second time with embeddings from the cache
                np.testing.assert_array_equal(await latents_of(http, extra=EXTRA), expected)
                np.testing.assert_array_equal(await latents_of(http), default)
    for client_class, address in ((HttpClient, http_address(fp32_servers)), (GrpcClient, fp32_servers.grpc_address)):
        async with client_class(address) as client:
            generation = await client.generate("a sea", size=(64, 64), steps=4, seed=5, extra=EXTRA)
            np.testing.assert_array_equal(generation.latents[0], expected)
            assert generation.parameters["extra"] == EXTRA


async def test_server_and_gateway_list_the_parameters_with_their_bounds(fp32_servers: Servers) -> None:
    text, image = "image-latents from a prompt", "image-latents from a prompt and image"
    inpainting = "image-latents from a prompt and image and mask"
    expected = [
        {
            "name": "guidance_rescale",
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "default": 0,
            "same_as": None,
            "forms": [text],
        },
        {
            "name": "clip_skip",
            "type": "integer",
            "minimum": 0,
            "maximum": 1,
            "default": 0,
            "same_as": None,
            "forms": [text, image, inpainting],
        },
    ]
    async with run_http_gateway(fp32_servers.grpc_address) as (_, gateway):
        for http in (fp32_servers.http, gateway):
            (listed,) = (await (await http.get("/v1/models")).json())["data"]
            (described,) = (await (await http.get("/codec/info")).json())["models"]
            assert listed["extra"] == described["extra"] == expected
            assert all(isinstance(listed["extra"][1][name], int) for name in ("minimum", "maximum", "default"))


@pytest.mark.parametrize(
    ("extra", "param", "message"),
    [
        ({"clip_skip": 2}, "extra.clip_skip", "must be from 0 to 1 for"),
        ({"true_cfg_scale": 2}, "extra.true_cfg_scale", "allowed parameters: guidance_rescale (0 to 1), clip_skip"),
        ({"guidance_rescale": "x"}, "extra.guidance_rescale", "must be a valid number, got 'x'"),
        ({"clip": 1}, "extra.clip", "is not a field of a request; did you mean 'extra.clip_skip'?"),
        ("clip_skip=1", "extra", "must be an object, got 'clip_skip=1'"),
    ],
)
async def test_invalid_parameter_names_the_field(fp32_servers: Servers, extra: Any, param: str, message: str) -> None:
    async with run_http_gateway(fp32_servers.grpc_address) as (_, gateway):
        for http in (fp32_servers.http, gateway):
            response = await http.post(IMAGES, json=FIELDS | {"extra": extra})
            error = await read_error(response)
            assert (response.status, error["param"]) == (400, param)
            assert message in error["message"]


def test_jobs_with_different_parameters_are_not_batched(tiny_model: LoadedModel) -> None:
    bundle = bundle_with_dtype(tiny_model, "fp32")
    extras = (None, {"clip_skip": 1}, {"clip_skip": 1}, {"clip_skip": 0}, EXTRA)
    requests = [parse_request({"prompt": "x", "seed": seed, "extra": extra}) for seed, extra in enumerate(extras)]
    keys = [batch_key(plan(request, bundle, tiny_model.info)) for request in requests]
    assert keys[1] == keys[2]
    assert len(set(keys)) == 4


def test_guidance_interval_rescales_the_steps_with_guidance(
    tiny_model: LoadedModel, device_thread: DeviceThread
) -> None:
    interval = GuidanceInterval.parse("0-0.5")
    model = replace(tiny_model, variants=tuple(replace(one, guidance_interval=interval) for one in tiny_model.variants))
    request = parse_request({"prompt": "a sea", "size": (64, 64), "steps": 4, "seed": 5, "extra": EXTRA})
    planned = plan(request, bundle_with_dtype(model, "fp32"), model.info)

    def without_guidance(pipeline: Any, index: int, _timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        if index == 1:  # the remaining two of four steps
            pipeline._guidance_scale = 0.0
            values["prompt_embeds"] = values["prompt_embeds"].chunk(2)[1]
        return values

    tensors = {"callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds"]}
    expected = device_thread.submit(
        expected_latents, callback_on_step_end=without_guidance, **tensors, **EXTRA
    ).result()
    found = device_thread.submit(sample, model, planned, Job(), lambda _done, _total: None).result()
    np.testing.assert_array_equal(found[0].numpy(), expected)


async def test_video_job_keeps_the_parameters(tmp_path: Path) -> None:
    mode = GenerationMode(Modality.VIDEO, extra=(ExtraField("clip_skip", 0, 11, 0),))
    engine = FakeEngine(free_running=True)
    async with run_video_server(engine, tmp_path, model=replace(VIDEO_MODEL, modes=(mode,))) as server:
        created = await server.create(extra={"clip_skip": 2})
        await server.wait_for(created["id"], "completed")
        (planned,) = engine.started
        assert planned.extra == ExtraParameters(clip_skip=2)
        content = await (await server.http.get(f"{VIDEO_JOBS}/{created['id']}/content")).read()
        file = tmp_path / "a.mp4"
        file.write_bytes(content)
        assert read_comment(file)["extra"] == {"clip_skip": 2}
        fields = {"prompt": "x", "size": "64x48", "frames": "3", "extra[clip_skip]": "12"}
        form = aiohttp.FormData(fields, default_to_multipart=True)
        response = await server.http.post(VIDEO_JOBS, data=form)
        assert (response.status, (await read_error(response))["param"]) == (400, "extra.clip_skip")
