"""Plain video requests: MP4 files that a decoder of video reads back, with what made them inside."""

import base64
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest

from tests.support.fake_engine import FakeEngine, noise_of
from tests.support.http_requests import VIDEOS
from tests.support.rendering import RENDERING_VIDEO, answer_of
from tests.support.serving import servers_over

BODY: dict[str, Any] = {"prompt": "a sea 🌊", "size": "64x48", "steps": 1, "frames": 5, "fps": 6}


async def test_a_video_holds_its_frames_its_rate_and_its_parameters(tmp_path: Path) -> None:
    engine = FakeEngine(free_running=True)
    async with servers_over(engine, RENDERING_VIDEO) as servers:
        answer = await answer_of(servers.http, BODY | {"n": 2}, VIDEOS)
    assert (answer["output_format"], answer["size"]) == ("mp4", "64x48")
    assert [file["seed"] for file in answer["data"]] == [42, 43]
    for file, plan in zip(answer["data"], engine.started, strict=True):
        path = tmp_path / f"{file['seed']}.mp4"
        path.write_bytes(base64.b64decode(file["b64_json"]))
        about = ffmpeg("-i", str(path), "-f", "null", "-").stderr.decode()
        assert re.search(r"Video: h264 .*yuv420p.* 64x48.* 6 fps", about), about
        expected = noise_of(plan)
        raw = ffmpeg("-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-").stdout
        read = np.frombuffer(raw, np.uint8).reshape(expected.shape)
        # H.264 halves the colours' resolution; what is bright and what is dark stays where it was.
        assert np.abs(read.mean(-1) - expected.mean(-1)).mean() < 12
        assert comment_of(path)["prompt"] == "a sea 🌊"
        assert comment_of(path)["frames"] == 5


def ffmpeg(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), *arguments], capture_output=True, check=True)


def comment_of(path: Path) -> dict[str, Any]:
    said = ffmpeg("-i", str(path), "-f", "ffmetadata", "-").stdout.decode()
    found = re.search(r"^comment=(.*)$", said, re.MULTILINE)
    assert found is not None
    comment: dict[str, Any] = json.loads(re.sub(r"\\([=;#\\])", r"\1", found[1]))
    return comment


async def test_the_longest_prompts_still_fit() -> None:
    long = {"prompt": "🏔" * 8192, "negative_prompt": "🏔" * 8192}
    async with servers_over(FakeEngine(free_running=True), RENDERING_VIDEO) as servers:
        assert await answer_of(servers.http, BODY | long | {"frames": 1}, VIDEOS)


@pytest.mark.parametrize(
    ("change", "param"),
    [({"output_format": "png"}, "output_format"), ({"keyframe_interval": 2}, "keyframe_interval"), ({"fps": 0}, "fps")],
)
async def test_what_a_video_cannot_be_is_refused(change: dict[str, Any], param: str) -> None:
    async with servers_over(FakeEngine(free_running=True), RENDERING_VIDEO) as servers:
        response = await servers.http.post(VIDEOS, json=BODY | change)
        assert response.status == 400
        assert (await response.json())["error"]["param"] == param
