"""Videos of the embedded model: every pipeline over both protocols, and their quality."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec_client import Generation, GrpcClient, HttpClient, PixelDecoder
from codec_golden.metrics import psnr_db, ssim_of_frames
from codec_wire.latents import Modality
from codec_wire.maps import LatentMap
from codec_wire.pipelines import PIPELINES, Scales
from tests.support.commands import invoke
from tests.support.ffmpeg import read_frames
from tests.support.processes import Addresses

pytestmark = pytest.mark.slow

FIELDS: dict[str, Any] = {
    "modality": Modality.VIDEO,
    "size": (128, 128),
    "frames": 24,
    "fps": 12,
    "steps": 2,
    "seed": 3,
}
PROMPT = "a field by day, the camera panning"


@pytest.fixture(scope="module")
def video_map(embedded_server: Addresses, tmp_path_factory: pytest.TempPathFactory) -> LatentMap:
    with HttpClient(embedded_server.http, cache_dir=tmp_path_factory.mktemp("cache")).blocking() as client:
        return client.latent_map().latent_map


@pytest.fixture(scope="module")
def streams(
    embedded_server: Addresses, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[tuple[str, str], Generation]]:
    """Return generations by (protocol, pipeline)."""
    cache = tmp_path_factory.mktemp("cache")
    with (
        HttpClient(embedded_server.http, cache_dir=cache).blocking() as http,
        GrpcClient(embedded_server.grpc, cache_dir=cache).blocking() as grpc,
    ):
        yield {
            (protocol, name): client.generate(PROMPT, pipeline=name, **FIELDS)
            for protocol, client in (("http", http), ("grpc", grpc))
            for name in PIPELINES
        }


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_both_protocols_return_the_same_24_frames(pipeline: str, streams: dict[tuple[str, str], Generation]) -> None:
    over_http, over_grpc = streams["http", pipeline], streams["grpc", pipeline]
    assert over_http.latents.shape == (24, 4, 16, 16)
    assert (over_http.header.fps, over_http.header.total_frames) == (12, 24)
    assert over_http.header == over_grpc.header
    assert np.array_equal(over_http.latents, over_grpc.latents)
    assert over_http.latents.astype(np.float32).std() > 0.5


@pytest.mark.parametrize("pipeline", [name for name, row in PIPELINES.items() if row.scales is not Scales.STATIC])
def test_adaptive_pipelines_meet_the_maps_quality_thresholds(
    pipeline: str, streams: dict[tuple[str, str], Generation], video_map: LatentMap
) -> None:
    """Static scales need converged latents, which two steps do not give; tests/codec_golden evaluates them."""
    entry = video_map.pipeline(pipeline)
    assert entry is not None
    assert entry.quality_thresholds is not None
    assert entry.quality_thresholds.ssim_min is not None
    assert entry.quality_thresholds.psnr_min_db is not None
    decoder = PixelDecoder(video_map, device="cpu")
    frames, reference = (decoder.frames(streams["grpc", name].latents) for name in (pipeline, "raw"))
    assert np.mean(ssim_of_frames(reference, frames)) >= entry.quality_thresholds.ssim_min
    assert psnr_db(reference, frames) >= entry.quality_thresholds.psnr_min_db


def test_command_writes_a_video_with_motion(embedded_server: Addresses, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    request = [PROMPT, "--frames", "24", "--fps", "12", "--size", "128x128", "--steps", "6", "--seed", "3"]
    status, output = invoke("generate", "--video", *request, "-o", path, "--grpc", embedded_server.grpc)
    assert status == 0, output
    moving = read_frames(path, 128, 128).astype(float)
    assert len(moving) == 24
    adjacent = np.abs(np.diff(moving, axis=0)).mean()
    distant = np.abs(moving[12:] - moving[:12]).mean()
    assert distant > 1.2 * adjacent > 0, "adjacent frames are more similar than distant ones"
