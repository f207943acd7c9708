"""OpenAI-style requests to real video pipelines: the MP4 file shows the pixels of the raw stream."""

import base64
import re
from pathlib import Path

import numpy as np
import pytest

from codec_pixels.device import Device
from codec_pixels.device_thread import DeviceThread
from codec_pixels.vae import decode_latents
from codec_wire import WireFormat
from codec_wire.decoder import LatentDecoder
from core.diffusers_engine.engine import DiffusersEngine
from tests.support.factories import load_from_factory
from tests.support.ffmpeg import describe_video, read_frames
from tests.support.http_requests import VIDEOS
from tests.support.serving import read_stream, run_servers

BODY = {"prompt": "a sea", "size": "64x64", "steps": 2, "frames": 9, "fps": 6}


@pytest.mark.slow
@pytest.mark.parametrize("builder", ["build_animatediff", "build_cogvideox"])
async def test_rendered_video_matches_the_decoded_raw_stream(
    builder: str, device: Device, device_thread: DeviceThread, tmp_path: Path
) -> None:
    model = load_from_factory(f"tests.support.families.videos:{builder}", device)
    async with run_servers(DiffusersEngine(model, device_thread), model.info) as servers:
        raw = await servers.http.post(VIDEOS, json=BODY | {"stream_format": "msgpack"})
        header, frames = read_stream(await raw.read(), WireFormat.MSGPACK)
        decoder = LatentDecoder(header)
        latents = np.stack([decoder.decode(frame) for frame in frames])
        expected = device_thread.submit(
            decode_latents, model.pipeline.vae, latents, model.family.pipeline_class
        ).result()
        assert expected.shape == (9, 64, 64, 3)
        response = await servers.http.post(VIDEOS, json=BODY)
        assert response.status == 200, await response.text()
        path = tmp_path / "video.mp4"
        path.write_bytes(base64.b64decode((await response.json())["data"][0]["b64_json"]))
    description = describe_video(path)
    assert re.search(r"h264 .* 64x64.* 6 fps", description)
    read = read_frames(path, 64, 64)
    assert np.abs(read.mean(-1) - expected.mean(-1)).mean() < 12
