"""POST /v1/images/edits: forms and JSON, masks whose transparent pixels are repainted, and the openai package."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import numpy as np
import openai
import pytest
from PIL import Image

from codec_http.server import HttpServer
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from core.probe import sample_image
from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import IMAGES, JSON, read_error
from tests.support.rendering import RENDERING, image_pixels, post_json
from tests.support.serving import Servers, run_http_gateway, run_servers

EDITS = "/v1/images/edits"
SIDE = 64
PHOTO = sample_image(3, SIDE)
FIELDS: dict[str, Any] = {"prompt": "a sea", "size": f"{SIDE}x{SIDE}", "steps": 3, "seed": 5}


def png(image: Image.Image, name: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **({"lossless": True} if name == "WEBP" else {}))
    return buffer.getvalue()


def transparent_left_half(mode: str = "RGBA", name: str = "PNG", side: int = SIDE) -> bytes:
    alpha = np.full((side, side), 255, np.uint8)
    alpha[:, : side // 2] = 0
    image = Image.new("RGB", (side, side), "red")
    image.putalpha(Image.fromarray(alpha))
    return png(image.convert(mode), name)


def white_left_half() -> bytes:
    return png(Image.fromarray(np.repeat(np.array([[255, 0]], np.uint8), SIDE // 2, axis=1).repeat(SIDE, axis=0)))


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64_of(data)}"


def form(fields: dict[str, Any], **files: bytes) -> aiohttp.FormData:
    data = aiohttp.FormData()
    for name, value in fields.items():
        data.add_field(name, value if isinstance(value, str) else json.dumps(value))
    for name, file in files.items():
        data.add_field(name, io.BytesIO(file), filename="a.png", content_type="image/png")
    return data


@pytest.fixture
async def servers(engine: DiffusersEngine, tiny_model: LoadedModel) -> AsyncIterator[Servers]:
    async with run_servers(engine, tiny_model.info) as running:
        yield running


@pytest.fixture
async def client(servers: Servers) -> AsyncIterator[openai.AsyncOpenAI]:
    server = servers.servers[0]
    assert isinstance(server, HttpServer)
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none") as connected:
        yield connected


async def pixels_of_generation(servers: Servers, **fields: Any) -> Any:
    return image_pixels((await post_json(servers.http, FIELDS | fields))["data"][0])


def pixels_in(response: Any) -> Any:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(response.data[0].b64_json))))


async def test_openai_client_edits_an_image_with_and_without_a_mask(
    servers: Servers, client: openai.AsyncOpenAI
) -> None:
    options: dict[str, Any] = {"prompt": "a sea", "size": f"{SIDE}x{SIDE}", "extra_body": {"steps": 3, "seed": 5}}
    inputs = {"image": base64_of(PHOTO), "mask": base64_of(white_left_half())}
    expected = await pixels_of_generation(servers, **inputs)
    for mask in (transparent_left_half(), transparent_left_half("LA"), transparent_left_half(name="WEBP")):
        edited = await client.images.edit(image=PHOTO, mask=mask, **options)
        np.testing.assert_array_equal(pixels_in(edited), expected)
    without_mask = await pixels_of_generation(servers, image=inputs["image"])
    assert np.abs(without_mask.astype(int) - expected).mean() > 1
    for image in (PHOTO, [PHOTO], io.BytesIO(PHOTO), ("a.png", PHOTO, "image/png")):
        edited = await client.images.edit(image=image, **options)
        np.testing.assert_array_equal(pixels_in(edited), without_mask)


async def test_openai_client_streams_an_edit(servers: Servers, client: openai.AsyncOpenAI) -> None:
    stream = await client.images.edit(
        image=PHOTO,
        mask=transparent_left_half(),
        prompt="a sea",
        size="64x64",
        stream=True,
        partial_images=1,
        n=2,
        extra_body={"steps": 3, "seed": 5, "strength": 1.0},
    )
    events = [event async for event in stream]
    names = ["image_edit.partial_image", "image_edit.completed"]
    assert [event.type for event in events] == 2 * names
    inputs = {"image": base64_of(PHOTO), "mask": base64_of(white_left_half()), "strength": 1}
    expected = await pixels_of_generation(servers, **inputs)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(events[1].b64_json)))), expected)


async def test_json_and_forms_give_the_same_image(servers: Servers) -> None:
    mask = transparent_left_half()
    expected = await pixels_of_generation(servers, image=base64_of(PHOTO), mask=base64_of(white_left_half()))
    bodies: list[dict[str, Any]] = [
        {"image": base64_of(PHOTO), "mask": data_url(mask)},
        {"image": [data_url(PHOTO)], "mask": {"image_url": data_url(mask)}},
        {"images": [{"image_url": data_url(PHOTO)}], "mask": {"image_url": data_url(mask)}},
    ]
    for body in bodies:
        edited = await post_json(servers.http, FIELDS | body, EDITS)
        np.testing.assert_array_equal(image_pixels(edited["data"][0]), expected)
    for image in ("image", "image[]"):
        response = await servers.http.post(EDITS, data=form(FIELDS, **{image: PHOTO, "mask": mask}))
        assert response.status == 200, await response.text()
        np.testing.assert_array_equal(image_pixels((await response.json())["data"][0]), expected)


async def test_large_images_in_json_are_read(servers: Servers) -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8))
    image, mask = png(photo), transparent_left_half(side=512)
    assert len(image) > 256 * 1024
    body = {"images": [{"image_url": data_url(image)}], "mask": {"image_url": data_url(mask)}}
    in_json = await servers.http.post(EDITS, data=io.BytesIO(json.dumps(FIELDS | body).encode()), headers=JSON)
    response = await servers.http.post(EDITS, data=form(FIELDS, image=image, mask=mask))
    first, second = [image_pixels((await one.json())["data"][0]) for one in (in_json, response)]
    np.testing.assert_array_equal(first, second)


INVALID: list[tuple[dict[str, Any], str, str]] = [
    ({"image": None}, "image", "is required"),
    ({"image": [data_url(PHOTO)] * 2}, "image", "must be one image, got 2"),
    ({"images": [data_url(PHOTO)]}, "images", "must not be combined with image"),
    ({"image": {"image_url": "https://example.com/a.png"}}, "image", "must be a base64 data URL"),
    ({"mask": base64_of(white_left_half())}, "mask", "must have an alpha channel"),
    ({"mask": base64_of(transparent_left_half(side=32))}, "mask", "must have the size of `image`, 64x64, got 32x32"),
    ({"mask": base64_of(transparent_left_half()[:-60])}, "mask", "is a broken png file"),
    ({"stream_format": "msgpack"}, "stream_format", "is not a field"),
    ({"background": "transparent"}, "background", "auto"),
    ({"markup": data_url(PHOTO)}, "markup", "is not supported"),
    ({"n": 11}, "n", "less than or equal to 10"),
]


@pytest.mark.parametrize(("fields", "field", "message"), INVALID)
async def test_invalid_edit_names_the_field(servers: Servers, fields: dict[str, Any], field: str, message: str) -> None:
    body = FIELDS | {"image": base64_of(PHOTO)} | fields
    error = await read_error(response := await servers.http.post(EDITS, json=body))
    assert (response.status, error["param"]) == (400, field), error
    assert message in error["message"]


async def test_form_over_a_limit_and_other_content_types_are_refused(servers: Servers) -> None:
    response = await servers.http.post(EDITS, data=form(FIELDS, image=PHOTO + bytes(8 * 1024 * 1024)))
    assert (response.status, (await read_error(response))["param"]) == (400, "image")
    response = await servers.http.post(EDITS, data=form(FIELDS | {"prompt": "x" * 300_000}, image=PHOTO))
    assert (response.status, (await read_error(response))["code"]) == (413, "too_large")
    response = await servers.http.post(EDITS, data=b"x", headers={"Content-Type": "text/plain"})
    assert response.status == 415
    assert "must be multipart/form-data or application/json" in (await read_error(response))["message"]
    response = await servers.http.post(EDITS, data=form(FIELDS, image=bytes(100)))
    assert (response.status, (await read_error(response))["param"]) == (400, "image")


async def test_model_without_inpainting_refuses_the_mask_before_it_is_decoded() -> None:
    async with run_servers(FakeEngine(), RENDERING) as servers:
        response = await servers.http.post(EDITS, data=form(FIELDS, image=PHOTO, mask=transparent_left_half()))
        error = await read_error(response)
        assert (response.status, error["param"]) == (400, "image")
        assert "is not supported by tiny-sd" in error["message"]


async def test_gateway_refuses_edits_as_it_refuses_all_pixels(servers: Servers) -> None:
    async with run_http_gateway(servers.grpc_address) as (_, gateway):
        refused = []
        for path, data in ((EDITS, {"image": base64_of(PHOTO)}), (IMAGES, {})):
            response = await gateway.post(path, json=FIELDS | data)
            refused.append((response.status, (await read_error(response))["message"]))
    assert refused[0] == refused[1]


async def test_many_edits_at_once_are_all_answered(servers: Servers) -> None:
    posts = [
        servers.http.post(EDITS, data=form(FIELDS | {"seed": seed}, image=PHOTO, mask=transparent_left_half()))
        for seed in range(6)
    ]
    responses = await asyncio.gather(*posts)
    assert [response.status for response in responses] == 6 * [200]
    assert len({await response.text() for response in responses}) == 6
