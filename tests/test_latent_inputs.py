"""Generations from latents equal those from the image that they encode, for every protocol and pipeline class."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from codec_client import GrpcClient, HttpClient
from codec_pixels.device import Device
from codec_pixels.device_thread import DeviceThread
from codec_wire import WireFormat
from codec_wire.errors import InvalidRequest
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.vae_engine import DiffusersVae
from core.probe import sample_image
from tests.support.factories import load_from_factory
from tests.support.http_requests import IMAGES
from tests.support.pipeline_pixels import bundle_with_dtype
from tests.support.serving import Servers, http_address, read_stream, run_http_gateway, run_servers

pytestmark = pytest.mark.slow

PHOTO = sample_image(3, side=64)
FACTORIES = {
    "StableDiffusionImg2ImgPipeline": "tiny_sd:build_pipeline",
    "StableDiffusionXLImg2ImgPipeline": "tiny_sdxl:build_sdxl",
    "StableDiffusionControlNetImg2ImgPipeline": "families.images:build_controlnet",
    "StableDiffusion3Img2ImgPipeline": "families.images:build_sd3",
    "FluxImg2ImgPipeline": "families.images:build_flux",
}
FIELDS = {"prompt": "a sea", "steps": 3, "seed": 5, "strength": 0.5, "stream_format": "msgpack"}


@pytest.fixture
async def image_servers(
    engine: DiffusersEngine, tiny_model: LoadedModel, device_thread: DeviceThread
) -> AsyncIterator[Servers]:
    async with run_servers(engine, tiny_model.info, vae=DiffusersVae(tiny_model, device_thread)) as servers:
        yield servers


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def encode(http: Any, query: str, file: bytes = PHOTO) -> bytes:
    response = await http.post(f"/v1/latents/encode?{query}", data=file)
    assert response.status == 200, await response.text()
    return bytes(await response.read())


async def generate(http: Any, fields: dict[str, Any]) -> Any:
    response = await http.post(IMAGES, json=FIELDS | fields)
    assert response.status == 200, await response.text()
    return read_stream(await response.read(), WireFormat.MSGPACK)


@pytest.mark.parametrize("pipeline_class", FACTORIES)
async def test_latents_give_the_bytes_of_their_image(
    device: Device, device_thread: DeviceThread, pipeline_class: str
) -> None:
    model = load_from_factory(f"tests.support.{FACTORIES[pipeline_class]}", device)
    assert pipeline_class in [variant.family.pipeline_class for variant in model.variants if variant.mode.latents]
    control = {"control_image": base64_of(sample_image(4, side=64))} if "ControlNet" in pipeline_class else {}
    engine, vae = DiffusersEngine(model, device_thread), DiffusersVae(model, device_thread)
    # fp32: fp16 rounds the latents that the pipeline starts from.
    bundle = bundle_with_dtype(model, "fp32")
    async with (
        run_servers(engine, model.info, vae=vae, bundle=bundle) as servers,
        run_http_gateway(servers.grpc_address) as (_, gateway),
    ):
        expected = await generate(servers.http, {"image": base64_of(PHOTO), "size": "64x64"} | control)
        for http in (servers.http, gateway):
            latents = await encode(http, "seed=5")
            assert latents == await encode(servers.http, "seed=5")
            assert await generate(http, {"latents": base64_of(latents)} | control) == expected
        other = await encode(servers.http, "seed=5", sample_image(9, side=64))
        assert await generate(servers.http, {"latents": base64_of(other)} | control) != expected
        message = pb.GenerateRequest(prompt="a sea", steps=3, seed=5, strength=0.5, latents=latents)
        message.control_image = base64.b64decode(control.get("control_image", ""))
        if not control:
            message.ClearField("control_image")
        messages = [response async for response in servers.stub.Generate(message)]
        assert [response.frame.data for response in messages[1:]] == [frame.data for frame in expected[1]]


@pytest.mark.parametrize("client_class", [HttpClient, GrpcClient])
async def test_clients_send_latents(image_servers: Servers, client_class: type) -> None:
    latents = await encode(image_servers.http, "pipeline=int8&stream_format=protobuf")
    expected = await generate(image_servers.http, {"latents": base64_of(latents), "size": "64x64"})
    address = image_servers.grpc_address if client_class is GrpcClient else http_address(image_servers)
    async with client_class(address) as client:
        fields = {name: FIELDS[name] for name in ("steps", "seed", "strength")}
        async with client.stream("a sea", latents=latents, **fields) as stream:
            async for _ in stream:
                assert stream.frame == expected[1][0]
        with pytest.raises(
            InvalidRequest, match="^latents: at byte 0: the body must be a latent stream, but it is a PNG image"
        ):
            await client.generate("a sea", latents=PHOTO)


async def test_seed_of_encoding_samples_the_distribution_of_the_vae(image_servers: Servers) -> None:
    bodies = {await encode(image_servers.http, query) for query in ("", "seed=5", "seed=6", "seed=5&pipeline=raw")}
    assert len(bodies) == 3


async def test_rendered_image_starts_from_latents(image_servers: Servers) -> None:
    latents = await encode(image_servers.http, "seed=5")
    fields = {name: value for name, value in FIELDS.items() if name != "stream_format"}
    images = []
    for start in ({"latents": base64_of(latents)}, {"image": base64_of(PHOTO), "size": "64x64"}):
        response = await image_servers.http.post(IMAGES, json=fields | start)
        assert response.status == 200, await response.text()
        images.append(base64.b64decode((await response.json())["data"][0]["b64_json"]))
    from_latents, from_image = images
    assert b'"latents": "sha256:' in from_latents
    assert abs(len(from_latents) - len(from_image)) < 200


async def test_invalid_latents_name_the_field(image_servers: Servers) -> None:
    response = await image_servers.http.post(IMAGES, json=FIELDS | {"latents": "AAAA"})
    assert (response.status, (await response.json())["error"]["param"]) == (400, "latents")
    response = await image_servers.http.post(IMAGES, json=FIELDS | {"latents": "not base64"})
    assert (response.status, (await response.json())["error"]["param"]) == (400, "latents")
