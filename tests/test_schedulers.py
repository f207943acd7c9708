"""The request field `scheduler`: the latents are those of the pipeline with that scheduler, whatever neighbours use."""

import asyncio
import base64
import json
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from codec_client import GrpcClient, HttpClient
from codec_pixels.device import Device
from codec_pixels.device_thread import DeviceThread
from core.diffusers_engine.batch import batch_key
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.scheduler_choice import DIFFUSION, SCHEDULERS
from core.plan import plan
from core.probe import probe_request, sample_image
from tests.support.factories import load_from_factory
from tests.support.http_requests import IMAGES, read_error, request_latents
from tests.support.pipeline_pixels import bundle_with_dtype
from tests.support.serving import Servers, http_address, run_http_gateway, run_servers
from tests.support.tiny_sd import build_pipeline

FIELDS: dict[str, Any] = {"prompt": "a sea", "size": "64x64", "steps": 5, "seed": 5, "stream_format": "msgpack"}


async def latents_of(http: Any, **fields: Any) -> Any:
    latents, headers = await request_latents(http, FIELDS | fields)
    assert json.loads(headers["Codec-Parameters"]).get("scheduler") == fields.get("scheduler")
    return latents


def expected_latents(name: str | None) -> Any:
    """Call the pipeline with the scheduler `name`, which is set on the pipeline."""
    pipeline = build_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    if name is not None:
        choice = SCHEDULERS[name]
        scheduler_class = getattr(diffusers, choice.scheduler_class)
        pipeline.scheduler = scheduler_class.from_config(pipeline.scheduler.config, **choice.settings)
    output = pipeline(
        "a sea",
        width=64,
        height=64,
        num_inference_steps=5,
        generator=torch.Generator().manual_seed(5),
        output_type="latent",
    )
    return output.images[0].numpy()


def test_model_lists_every_diffusion_scheduler(tiny_model: LoadedModel) -> None:
    assert tiny_model.info.schedulers == tuple(DIFFUSION)


async def test_latents_equal_those_of_the_pipeline_with_the_scheduler(
    fp32_servers: Servers, device_thread: DeviceThread
) -> None:
    found = []
    for name in (None, *DIFFUSION):
        # On the device thread, because the number of CPU threads changes the result.
        expected = device_thread.submit(expected_latents, name).result()
        received = await latents_of(fp32_servers.http, **({} if name is None else {"scheduler": name}))
        np.testing.assert_array_equal(received, expected, err_msg=str(name))
        found.append(received)
    assert len({latents.tobytes() for latents in found[1:]}) == len(DIFFUSION)
    np.testing.assert_array_equal(found[0], found[1 + list(DIFFUSION).index("ddim")])


async def test_scheduler_of_a_request_does_not_change_its_neighbours(fp32_servers: Servers) -> None:
    names = (None, "euler", "dpm++-2m-karras", None, "heun", "lcm")
    fields = [{} if name is None else {"scheduler": name} for name in names]
    alone = [await latents_of(fp32_servers.http, **one) for one in fields]
    for _ in range(2):
        together = await asyncio.gather(*(latents_of(fp32_servers.http, **one) for one in fields))
        for received, expected in zip(together, alone, strict=True):
            np.testing.assert_array_equal(received, expected)


async def test_gateway_and_clients_select_the_scheduler(fp32_servers: Servers) -> None:
    expected = await latents_of(fp32_servers.http, scheduler="euler")
    async with run_http_gateway(fp32_servers.grpc_address) as (_, gateway):
        np.testing.assert_array_equal(await latents_of(gateway, scheduler="euler"), expected)
        for path in ("/v1/models", "/codec/info"):
            content = await (await gateway.get(path)).json()
            (model,) = content["data" if path == "/v1/models" else "models"]
            assert model["schedulers"] == list(DIFFUSION)
        response = await gateway.post(IMAGES, json=FIELDS | {"scheduler": "ddim2"})
        assert (response.status, (await read_error(response))["param"]) == (400, "scheduler")
        response = await gateway.post(IMAGES, json=FIELDS | {"scheduler": "lcm", "steps": 51})
        error = await read_error(response)
        assert (response.status, error["param"]) == (400, "steps")
    for client_class, address in ((HttpClient, http_address(fp32_servers)), (GrpcClient, fp32_servers.grpc_address)):
        async with client_class(address) as client:
            generation = await client.generate("a sea", size=(64, 64), steps=5, seed=5, scheduler="euler")
            np.testing.assert_array_equal(generation.latents[0], expected)
            assert generation.parameters["scheduler"] == "euler"


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"scheduler": "EulerDiscreteScheduler"}, "scheduler", "must be one of ddim, ddpm, deis"),
        ({"scheduler": "flow-euler"}, "scheduler", "for build_pipeline, got 'flow-euler'"),
        ({"scheduler": ""}, "scheduler", "at least 1 character"),
        ({"scheduler": 3}, "scheduler", "valid string"),
        ({"scheduler": "lcm", "steps": 51}, "steps", "must be from 1 to 50 for the scheduler lcm of"),
    ],
)
async def test_invalid_scheduler_names_the_field(
    fp32_servers: Servers, fields: dict[str, Any], field: str, message: str
) -> None:
    response = await fp32_servers.http.post(IMAGES, json=FIELDS | fields)
    error = await read_error(response)
    assert (response.status, error["param"]) == (400, field)
    assert (
        message.replace("build_pipeline", fp32_servers.service.models.require_default().model.name) in error["message"]
    )


async def test_input_image_is_noised_by_the_selected_scheduler(fp32_servers: Servers) -> None:
    image = {"image": base64.b64encode(sample_image(3, 64)).decode(), "strength": 0.6}
    found = [await latents_of(fp32_servers.http, **image, scheduler=name) for name in ("ddim", "euler", "heun")]
    assert all(np.isfinite(latents).all() for latents in found)
    assert len({latents.tobytes() for latents in found}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("factory", ["families.images:build_sd3", "families.images:build_flux"])
async def test_flow_models_list_flow_schedulers(device: Device, device_thread: DeviceThread, factory: str) -> None:
    model = load_from_factory(f"tests.support.{factory}", device)
    assert model.info.schedulers == ("flow-euler", "flow-lcm")
    bundle = bundle_with_dtype(model, "fp32")
    async with run_servers(DiffusersEngine(model, device_thread), model.info, bundle=bundle) as servers:
        found = [await latents_of(servers.http, scheduler=name) for name in model.info.schedulers]
        np.testing.assert_array_equal(found[0], await latents_of(servers.http))
        assert np.abs(found[0] - found[1]).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("factory", ["families.videos:build_svd", "families.videos:build_cogvideox"])
def test_other_models_have_only_their_own_scheduler(device: Device, factory: str) -> None:
    assert load_from_factory(f"tests.support.{factory}", device).info.schedulers == ()


def test_jobs_with_different_schedulers_are_not_batched(tiny_model: LoadedModel) -> None:
    bundle = bundle_with_dtype(tiny_model, "fp32")
    requests = [
        probe_request(tiny_model.info, tiny_model.info.modalities[0], "a sea", seed, scheduler=name)
        for seed, name in ((1, None), (2, "euler"), (3, "euler"))
    ]
    first, second, third = [batch_key(plan(request, bundle, tiny_model.info)) for request in requests]
    assert first != second
    assert second == third
