"""Inpainting: `mask` repaints only the masked area, with the same bytes for every protocol and through a gateway."""

import base64
import io
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codec_client import GrpcClient, HttpClient
from codec_pixels.device_thread import DeviceThread
from codec_wire import WireFormat
from codec_wire.decoder import LatentDecoder
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.vae_engine import DiffusersVae
from core.probe import sample_image, sample_mask
from tests.support.http_requests import IMAGES
from tests.support.pipeline_pixels import bundle_with_dtype
from tests.support.rendering import image_pixels, post_json
from tests.support.serving import Servers, http_address, read_stream, run_http_gateway, run_servers

pytestmark = pytest.mark.slow

SIDE = 64
PHOTO, MASK = sample_image(3, SIDE), sample_mask(SIDE)
FIELDS: dict[str, Any] = {"prompt": "a sea", "steps": 3, "seed": 5, "size": f"{SIDE}x{SIDE}"}
STREAM = {"stream_format": "msgpack"}


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def png(colour: int, size: tuple[int, int] = (SIDE, SIDE), mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size, colour).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


INPUTS = {"image": base64_of(PHOTO), "mask": base64_of(MASK)}


@pytest.fixture
async def servers(
    engine: DiffusersEngine, tiny_model: LoadedModel, device_thread: DeviceThread
) -> AsyncIterator[Servers]:
    vae, bundle = DiffusersVae(tiny_model, device_thread), bundle_with_dtype(tiny_model, "fp32")
    async with run_servers(engine, tiny_model.info, vae=vae, bundle=bundle) as running:
        yield running


async def body_of(http: Any, fields: dict[str, Any]) -> bytes:
    response = await http.post(IMAGES, json=FIELDS | STREAM | fields)
    assert response.status == 200, await response.text()
    return bytes(await response.read())


def latents_in(body: bytes) -> Any:
    header, frames = read_stream(body, WireFormat.MSGPACK)
    return LatentDecoder(header).decode(frames[0])


async def encoded(servers: Servers) -> bytes:
    response = await servers.http.post("/v1/latents/encode?seed=5", data=PHOTO)
    assert response.status == 200, await response.text()
    return bytes(await response.read())


async def test_latents_outside_the_mask_are_those_of_the_image(servers: Servers) -> None:
    inside, outside = np.split(latents_in(await body_of(servers.http, INPUTS)), 2, axis=-1)
    image_inside, image_outside = np.split(latents_in(await encoded(servers)), 2, axis=-1)
    np.testing.assert_array_equal(outside, image_outside)
    assert np.abs(inside - image_inside).min(axis=0).max() > 0.1
    assert np.abs(inside - image_inside).mean() > 0.1


@pytest.mark.parametrize("mode", ["L", "RGB", "1", "P"])
async def test_pixels_outside_the_mask_equal_the_round_trip_of_the_image(servers: Servers, mode: str) -> None:
    black = INPUTS | {"mask": base64_of(png(0, mode=mode))}
    (rendered,) = (await post_json(servers.http, FIELDS | black))["data"]
    response = await servers.http.post(
        "/v1/latents/decode", data=await encoded(servers), headers={"Accept": "image/png"}
    )
    assert response.status == 200, await response.text()
    round_trip = np.asarray(Image.open(io.BytesIO(await response.read())))
    np.testing.assert_array_equal(image_pixels(rendered), round_trip)


async def test_white_mask_of_full_strength_ignores_the_image(servers: Servers) -> None:
    white = {"mask": base64_of(png(255)), "strength": 1}
    bodies = [
        latents_in(await body_of(servers.http, white | {"image": base64_of(sample_image(seed, SIDE))}))
        for seed in (3, 4)
    ]
    assert np.abs(bodies[0] - bodies[1]).max() < 1e-5


async def test_gateway_and_all_clients_give_the_same_bytes(servers: Servers) -> None:
    expected = await body_of(servers.http, INPUTS)
    async with run_http_gateway(servers.grpc_address) as (_, gateway):
        assert await body_of(gateway, INPUTS) == expected
        (rendered,) = (await (await gateway.get("/v1/models")).json())["data"]
        assert "image-latents from a prompt and image and mask" in rendered["forms"]
    fields: dict[str, Any] = {
        "steps": 3,
        "seed": 5,
        "size": (SIDE, SIDE),
        "image": PHOTO,
        "mask": MASK,
        "pipeline": "raw",
    }
    for client_class, address in ((HttpClient, http_address(servers)), (GrpcClient, servers.grpc_address)):
        async with client_class(address) as client:
            generation = await client.generate("a sea", **fields)
            np.testing.assert_array_equal(generation.latents[0], latents_in(expected))


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"image": None}, "mask", "requires `image`, which the mask refers to, got a mask without an image"),
        ({"mask": base64_of(png(0, (64, 32)))}, "mask", "must have the size of `image`, 64x64, got 64x32"),
        ({"mask": base64_of(PHOTO[:-40])}, "mask", "is a broken png file"),
        ({"mask": "AAAA"}, "mask", "must be a PNG, JPEG or WebP image, got 3 bytes of another format"),
        ({"control_image": INPUTS["image"]}, "control_image", "is not supported by"),
    ],
)
async def test_invalid_mask_names_the_field(servers: Servers, fields: dict[str, Any], field: str, message: str) -> None:
    for more in ({}, STREAM):
        response = await servers.http.post(IMAGES, json=FIELDS | more | INPUTS | fields)
        error = (await response.json())["error"]
        assert (response.status, error["param"]) == (400, field)
        assert message in error["message"]


async def test_latents_cannot_be_inpainted(servers: Servers) -> None:
    fields = {"latents": base64_of(await encoded(servers)), "mask": INPUTS["mask"]}
    response = await servers.http.post(IMAGES, json=FIELDS | fields)
    error = (await response.json())["error"]
    assert (response.status, error["param"]) == (400, "latents")
    assert "send an input image in the field `image` instead" in error["message"]
