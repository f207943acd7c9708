"""OpenAI-style video requests: MP4 files with the expected frames and metadata."""

import base64
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.fake_engine import FakeEngine, noise_frames
from tests.support.ffmpeg import describe_video, read_comment, read_frames
from tests.support.http_requests import VIDEOS
from tests.support.rendering import RENDERING_VIDEO, post_json
from tests.support.serving import run_servers

BODY: dict[str, Any] = {"prompt": "a sea 🌊", "size": "64x48", "steps": 1, "frames": 5, "fps": 6}


async def test_video_contains_its_frames_frame_rate_and_parameters(tmp_path: Path) -> None:
    engine = FakeEngine(free_running=True)
    async with run_servers(engine, RENDERING_VIDEO) as servers:
        response = await post_json(servers.http, BODY | {"n": 2}, VIDEOS)
    assert (response["output_format"], response["size"]) == ("mp4", "64x48")
    assert [file["seed"] for file in response["data"]] == [42, 43]
    for file, plan in zip(response["data"], engine.started, strict=True):
        path = tmp_path / f"{file['seed']}.mp4"
        path.write_bytes(base64.b64decode(file["b64_json"]))
        description = describe_video(path)
        assert re.search(r"Video: h264 .*yuv420p.* 64x48.* 6 fps", description), description
        expected = noise_frames(plan)
        read = read_frames(path, 64, 48)
        # H.264 halves the resolution of the colours, so only the brightness is compared.
        assert np.abs(read.mean(-1) - expected.mean(-1)).mean() < 12
        assert read_comment(path)["prompt"] == "a sea 🌊"
        assert read_comment(path)["frames"] == 5


async def test_longest_prompts_fit_into_the_metadata() -> None:
    long = {"prompt": "🏔" * 8192, "negative_prompt": "🏔" * 8192}
    async with run_servers(FakeEngine(free_running=True), RENDERING_VIDEO) as servers:
        assert await post_json(servers.http, BODY | long | {"frames": 1}, VIDEOS)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"output_format": "png"}, "output_format"),
        ({"keyframe_interval": 2}, "keyframe_interval"),
        ({"fps": 0}, "fps"),
        ({"fps": 4294967295}, "fps"),
    ],
)
async def test_invalid_field_of_a_video_request_returns_400(change: dict[str, Any], param: str) -> None:
    async with run_servers(FakeEngine(free_running=True), RENDERING_VIDEO) as servers:
        response = await servers.http.post(VIDEOS, json=BODY | change)
        assert response.status == 400
        assert (await response.json())["error"]["param"] == param
