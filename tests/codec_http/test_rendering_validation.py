"""Validation of OpenAI-style requests: fields that are accepted without effect, and fields that are rejected."""

from dataclasses import replace
from typing import Any

import pytest

from core.rendered_plan import MAX_RENDERED_PIXELS
from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import IMAGES, VIDEOS
from tests.support.rendering import BODY, RENDERING, RENDERING_VIDEO, post_json
from tests.support.serving import MODEL, run_http_gateway, run_servers


async def test_openai_fields_without_effect_are_accepted() -> None:
    harmless = {
        "n": None,
        "model": "little",
        "size": "auto",
        "response_format": "b64_json",
        "quality": "auto",
        "background": "opaque",
        "style": "vivid",
        "moderation": "low",
        "stream": False,
        "partial_images": 0,
        "user": "u-1",
        "safety_identifier": "s-1",
        "output_compression": 100,
    }
    async with run_servers(FakeEngine(free_running=True), RENDERING) as servers:
        assert (await post_json(servers.http, BODY | harmless))["size"] == "256x256"


@pytest.mark.parametrize(
    ("change", "param", "expected"),
    [
        ({"response_format": "url"}, "response_format", "must be b64_json: this server does not store files"),
        ({"response_format": "file"}, "response_format", "must be 'b64_json', got 'file'"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"n": 11}, "n", "less than or equal to 10"),
        ({"n": True}, "n", "got True"),
        ({"quality": "best"}, "quality", "got 'best'"),
        ({"background": "transparent"}, "background", "'auto' or 'opaque'"),
        ({"output_format": "gif"}, "output_format", "'png', 'jpeg' or 'webp'"),
        ({"output_compression": 50}, "output_compression", "for png"),
        ({"output_format": "jpeg", "output_compression": 101}, "output_compression", "less than or equal to 100"),
        ({"style": 3}, "style", "must be a valid string, got 3"),
        ({"moderation": "high"}, "moderation", "must be 'auto' or 'low', got 'high'"),
        ({"stream": "yes"}, "stream", "must be a valid boolean"),
        ({"partial_images": 2}, "partial_images", "must be 0 unless stream is true, got 2"),
        ({"stream": True, "partial_images": 4}, "partial_images", "less than or equal to 3, got 4"),
        ({"stream": True, "partial_images": -1}, "partial_images", "greater than or equal to 0, got -1"),
        ({"stream": True, "partial_images": 1}, "partial_images", "is not supported by tiny-sd"),
        ({"svg": {"model": "x"}}, "svg", "raster images only"),
        ({"keyframe_interval": 4}, "keyframe_interval", "add stream_format"),
        ({"fps": 4}, "fps", "only allowed for video-latents"),
        ({"seed": 2**64 - 2, "n": 3}, "seed", "for 3 images or videos"),
        ({"promt": "x"}, "promt", "did you mean 'prompt'"),
        ({"size": "big"}, "size", '"WIDTHxHEIGHT"'),
        ({"resolution": "64x64"}, "resolution", "got both"),
    ],
)
async def test_unsupported_field_returns_400_with_its_name(change: dict[str, Any], param: str, expected: str) -> None:
    engine = FakeEngine(free_running=True)
    async with run_servers(engine, RENDERING) as servers:
        response = await servers.http.post(IMAGES, json=BODY | change)
        error = (await response.json())["error"]
        assert (response.status, error["param"]) == (400, param)
        assert expected in error["message"]
        assert engine.started == []


@pytest.mark.parametrize(("model", "path"), [(RENDERING, VIDEOS), (RENDERING_VIDEO, IMAGES), (MODEL, IMAGES)])
async def test_modality_that_cannot_be_rendered_returns_415(model: Any, path: str) -> None:
    async with run_servers(FakeEngine(free_running=True), model) as servers:
        response = await servers.http.post(path, json={"prompt": "x"})
        assert response.status == 415
        assert (await response.json())["error"]["supported_modalities"] == [
            str(modality) for modality in model.modalities
        ]


async def test_gateway_does_not_render_and_reports_latent_modalities() -> None:
    async with (
        run_servers(FakeEngine(free_running=True), RENDERING) as servers,
        run_http_gateway(servers.grpc_address) as (_, http),
    ):
        for stream in ({}, {"stream": True}, {"stream": True, "partial_images": 2}):
            response = await http.post(IMAGES, json={"prompt": "a sea"} | stream)
            assert response.status == 415
            error = (await response.json())["error"]
            assert (error["param"], error["supported_modalities"]) == ("modality", ["image-latents"])
            assert "Request latents" in error["message"]
        info = await (await http.get("/codec/info")).json()
        assert info["rendered_formats"] == []


async def test_video_too_large_to_render_returns_413_but_its_latents_are_streamed() -> None:
    frames = MAX_RENDERED_PIXELS // (256 * 256) + 1
    model = replace(RENDERING_VIDEO, limits=replace(MODEL.limits, max_frames=frames))
    body = {"prompt": "x", "size": "256x256", "frames": frames, "steps": 1}
    engine = FakeEngine()
    async with run_servers(engine, model) as servers:
        rejected = await servers.http.post(VIDEOS, json=body)
        assert rejected.status == 413
        assert "fewer frames" in (await rejected.json())["error"]["message"]
        streamed = await servers.http.post(VIDEOS, json=body | {"stream_format": "msgpack"})
        assert streamed.status == 200
        streamed.close()
