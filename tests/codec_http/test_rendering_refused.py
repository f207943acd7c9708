"""What a plain request may say that cannot matter, and what is refused, by the name of the field."""

from dataclasses import replace
from typing import Any

import pytest

from core.rendered_plan import MAX_RENDERED_PIXELS
from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import IMAGES, VIDEOS
from tests.support.rendering import BODY, RENDERING, RENDERING_VIDEO, post_json
from tests.support.serving import MODEL, run_http_gateway, run_servers


async def test_what_openai_clients_send_and_cannot_matter_is_taken() -> None:
    harmless = {
        "n": None,
        "model": "little",
        "size": "auto",
        "response_format": "b64_json",
        "quality": "auto",
        "background": "opaque",
        "stream": False,
        "partial_images": 0,
        "user": "u-1",
        "safety_identifier": "s-1",
        "output_compression": 100,
    }
    async with run_servers(FakeEngine(free_running=True), RENDERING) as servers:
        assert (await post_json(servers.http, BODY | harmless))["size"] == "256x256"


@pytest.mark.parametrize(
    ("change", "param", "says"),
    [
        ({"response_format": "url"}, "response_format", "no picture is kept here"),
        ({"response_format": "file"}, "response_format", "must be 'b64_json', got 'file'"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"n": 11}, "n", "less than or equal to 10"),
        ({"n": True}, "n", "got True"),
        ({"quality": "hd"}, "quality", "'auto' or 'standard', got 'hd'"),
        ({"background": "transparent"}, "background", "'auto' or 'opaque'"),
        ({"output_format": "gif"}, "output_format", "'png', 'jpeg' or 'webp'"),
        ({"output_compression": 50}, "output_compression", "for png"),
        ({"output_format": "jpeg", "output_compression": 101}, "output_compression", "less than or equal to 100"),
        ({"style": "vivid"}, "style", "say it in the prompt"),
        ({"moderation": "low"}, "moderation", "nothing is filtered"),
        ({"stream": True}, "stream", "must be False"),
        ({"partial_images": 2}, "partial_images", "must be 0"),
        ({"svg": {"model": "x"}}, "svg", "not taken"),
        ({"pipeline": "int8"}, "pipeline", "add stream_format"),
        ({"keyframe_interval": 4}, "keyframe_interval", "add stream_format"),
        ({"fps": 4}, "fps", "video-latents alone"),
        ({"seed": 2**64 - 2, "n": 3}, "seed", "room for 3 seeds"),
        ({"promt": "x"}, "promt", "did you mean 'prompt'"),
        ({"size": "big"}, "size", '"WIDTHxHEIGHT"'),
        ({"resolution": "64x64"}, "resolution", "got both"),
    ],
)
async def test_what_cannot_be_honoured_is_refused_by_name(change: dict[str, Any], param: str, says: str) -> None:
    engine = FakeEngine(free_running=True)
    async with run_servers(engine, RENDERING) as servers:
        response = await servers.http.post(IMAGES, json=BODY | change)
        error = (await response.json())["error"]
        assert (response.status, error["param"]) == (400, param)
        assert says in error["message"]
        assert engine.started == []


@pytest.mark.parametrize(("model", "path"), [(RENDERING, VIDEOS), (RENDERING_VIDEO, IMAGES), (MODEL, IMAGES)])
async def test_what_the_model_cannot_give_is_415(model: Any, path: str) -> None:
    async with run_servers(FakeEngine(free_running=True), model) as servers:
        response = await servers.http.post(path, json={"prompt": "x"})
        assert response.status == 415
        assert (await response.json())["error"]["supported_modalities"] == [str(made) for made in model.modalities]


async def test_a_gateway_renders_nothing_and_says_what_it_has() -> None:
    async with (
        run_servers(FakeEngine(free_running=True), RENDERING) as servers,
        run_http_gateway(servers.grpc_address) as (_, http),
    ):
        response = await http.post(IMAGES, json={"prompt": "a sea"})
        assert response.status == 415
        error = (await response.json())["error"]
        assert error["supported_modalities"] == ["image-latents"]
        assert "ask for its latents" in error["message"]
        info = await (await http.get("/codec/info")).json()
        assert info["rendered_formats"] == []


async def test_a_picture_over_what_is_rendered_is_413_while_its_latents_are_not() -> None:
    frames = MAX_RENDERED_PIXELS // (256 * 256) + 1
    model = replace(RENDERING_VIDEO, limits=replace(MODEL.limits, max_frames=frames))
    body = {"prompt": "x", "size": "256x256", "frames": frames, "steps": 1}
    engine = FakeEngine()
    async with run_servers(engine, model) as servers:
        refused = await servers.http.post(VIDEOS, json=body)
        assert refused.status == 413
        assert "fewer frames" in (await refused.json())["error"]["message"]
        streamed = await servers.http.post(VIDEOS, json=body | {"stream_format": "msgpack"})
        assert streamed.status == 200
        streamed.close()
