"""OpenAI-style image requests: pixels, file formats and metadata."""

import asyncio
import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codec_pixels.device_thread import DeviceThread
from codec_pixels.parameters import KEYWORD
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from tests.support.fake_engine import FakeEngine, noise_frames
from tests.support.http_requests import IMAGES
from tests.support.rendering import BODY, RENDERING, RENDERING_VIDEO, image_pixels, post_json, raw_pixels
from tests.support.serving import MODEL, run_servers


async def test_pixels_equal_those_decoded_from_the_raw_stream(
    engine: DiffusersEngine, tiny_model: LoadedModel, device_thread: DeviceThread
) -> None:
    more = {"negative_prompt": "fog", "guidance_scale": 3.0}
    async with run_servers(engine, tiny_model.info) as servers:
        for changed in ({}, {"seed": 8}, more):
            response = await post_json(servers.http, BODY | changed)
            expected = await raw_pixels(servers.http, BODY | changed, tiny_model, device_thread)
            assert response["size"] == "64x48"
            assert np.array_equal(image_pixels(response["data"][0]), expected)
            assert expected.std() > 0


async def test_n_images_equal_those_of_the_single_seeds(engine: DiffusersEngine, tiny_model: LoadedModel) -> None:
    async with run_servers(engine, tiny_model.info) as servers:
        alone = [(await post_json(servers.http, BODY | {"seed": seed}))["data"][0] for seed in (7, 8, 9)]
        together = (await post_json(servers.http, BODY | {"n": 3}))["data"]
    assert together == alone
    assert [file["seed"] for file in together] == [7, 8, 9]
    assert len({file["b64_json"] for file in together}) == 3


async def test_png_metadata_reproduces_the_file(engine: DiffusersEngine, tiny_model: LoadedModel) -> None:
    async with run_servers(engine, tiny_model.info) as servers:
        file = (await post_json(servers.http, BODY | {"prompt": "сніг \0 🏔", "guidance_scale": 2.5}))["data"][0]
        image = Image.open(io.BytesIO(base64.b64decode(file["b64_json"])))
        metadata = json.loads(image.info[KEYWORD])
        assert image.info["Software"] == metadata["software"]
        assert metadata["latent_map"] == servers.service.models.require_default().bundle.hash
        fields = ("prompt", "seed", "steps", "guidance_scale", "size", "model")
        assert {name: metadata[name] for name in ("prompt", "seed", "steps")} == {
            "prompt": "сніг \0 🏔",
            "seed": 7,
            "steps": 3,
        }
        again = await post_json(servers.http, {name: metadata[name] for name in fields})
        assert again["data"][0] == file


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "name", "max_error"),
    [
        ({}, "PNG", 0),
        ({"output_format": "jpeg"}, "JPEG", 2),
        ({"output_format": "webp"}, "WEBP", 12),
        ({"output_format": "jpeg", "output_compression": 10}, "JPEG", 30),
    ],
)
async def test_file_format_and_quality(body: dict[str, Any], name: str, max_error: int) -> None:
    engine = FakeEngine(free_running=True)
    async with run_servers(engine, RENDERING) as servers:
        response = await post_json(servers.http, BODY | body)
        assert response["output_format"] == name.lower()
        assert abs(response["created"] - asyncio.get_running_loop().time()) > 0
        data = base64.b64decode(response["data"][0]["b64_json"])
        image = Image.open(io.BytesIO(data))
        assert (image.format, image.size, image.mode) == (name, (64, 48), "RGB")
        error = np.abs(np.asarray(image).astype(int) - noise_frames(engine.started[0])[0])
        assert error.mean() <= max_error
        if name != "PNG":
            assert json.loads(image.getexif()[0x010E])["prompt"] == BODY["prompt"]


async def test_metadata_too_long_for_exif_is_omitted() -> None:
    async with run_servers(FakeEngine(free_running=True), RENDERING) as servers:
        for output_format in ("jpeg", "webp", "png"):
            long = {"prompt": "🏔" * 8192, "negative_prompt": "🏔" * 8192, "output_format": output_format}
            response = await post_json(servers.http, BODY | long)
            image = Image.open(io.BytesIO(base64.b64decode(response["data"][0]["b64_json"])))
            assert (0x010E in image.getexif()) is False
            assert (KEYWORD in image.info) is (output_format == "png")


async def test_info_lists_the_file_formats() -> None:
    for model, formats in ((RENDERING, ["png", "jpeg", "webp"]), (RENDERING_VIDEO, ["mp4"]), (MODEL, [])):
        async with run_servers(FakeEngine(), model) as servers:
            assert (await (await servers.http.get("/codec/info")).json())["rendered_formats"] == formats


async def test_json_body_is_compressed_if_the_client_accepts_it() -> None:
    async with run_servers(FakeEngine(free_running=True), RENDERING) as servers:
        plain = await post_json(servers.http, BODY)
        for coding in ("gzip", "br"):
            response = await servers.http.post(
                IMAGES, json=BODY, headers={"Accept-Encoding": coding}, auto_decompress=True
            )
            assert response.headers["Content-Encoding"] == coding
            assert response.headers["Codec-Latent-Map"] == servers.service.models.require_default().bundle.hash
            assert (await response.json())["data"] == plain["data"]
