"""A server with two models: routing of requests, discovery and errors."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from codec_client import fetch_map
from codec_server.local_model import LocalModel
from codec_wire import WireFormat
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from core.admission import Admission
from core.lifecycle import Lifecycle
from core.service import LatentService
from core.settings import Settings
from tests.support.families.videos import build_animatediff, build_motion_adapter, build_wan
from tests.support.serving import Servers, read_stream, run_http_gateway, run_servers_for
from tests.support.tiny_sd import save_model_and_map

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_model_and_map(folder, "tiny-sd-vae")
    build_wan().save_pretrained(folder / "wan")
    build_motion_adapter().save_pretrained(folder / "motion")
    build_animatediff().save_pretrained(folder / "moving")
    return folder


@asynccontextmanager
async def run_two_models(models_dir: Path, **fields: Any) -> AsyncIterator[Servers]:
    settings = Settings(models_dir=models_dir, threads=1, calibration_images=1, device="cpu", **fields)
    local = LocalModel(settings)
    service = LatentService(Lifecycle(), Admission(8, 10**12))
    try:
        await local.start_serving(service)
        async with run_servers_for(service) as servers:
            yield servers
    finally:
        await asyncio.to_thread(local.free)


IMAGE = {"prompt": "a sea", "stream_format": "msgpack", "size": "64x64", "steps": 2}
VIDEO = IMAGE | {"frames": 5}


async def test_requests_are_routed_by_modality_and_model(models_dir: Path) -> None:
    async with (
        run_two_models(models_dir, model="tiny-sd", video_model="wan") as servers,
        run_http_gateway(servers.grpc_address) as (_, gateway),
    ):
        for http in (servers.http, gateway):
            image = await http.post("/v1/images/generations", json=IMAGE)
            header, frames = read_stream(await image.read(), WireFormat.MSGPACK)
            assert (header.latent_space_id, header.shape, len(frames)) == ("tiny-sd-vae", (4, 8, 8), 1)
            video = await http.post("/v1/videos/generations", json=VIDEO | {"pipeline": "delta+int8"})
            header, frames = read_stream(await video.read(), WireFormat.MSGPACK)
            assert (header.latent_space_id, header.shape, len(frames)) == ("wan-vae", (16, 8, 8), 2)
            assert image.headers["Codec-Latent-Map"] != video.headers["Codec-Latent-Map"]
            for fields, status, message in (
                ({"model": "wan"}, 415, "is not supported by wan; allowed: video-latents"),
                ({"model": "other"}, 404, "tiny-sd, wan"),
                ({"latent_space": "other"}, 404, "tiny-sd-vae"),
            ):
                response = await http.post("/v1/images/generations", json=IMAGE | fields)
                assert response.status == status
                assert message in (await response.json())["error"]["message"]
            pinned = {"X-Codec-Map": image.headers["Codec-Latent-Map"]}
            for endpoint, body, status in (("images", IMAGE, 200), ("videos", VIDEO, 409)):
                answer = await http.post(f"/v1/{endpoint}/generations", json=body, headers=pinned)
                await answer.read()
                assert answer.status == status


async def test_both_models_and_maps_are_listed(models_dir: Path) -> None:
    async with (
        run_two_models(models_dir, model="tiny-sd", video_model="wan") as servers,
        run_http_gateway(servers.grpc_address) as (_, gateway),
    ):
        for http in (servers.http, gateway):
            info = await (await http.get("/codec/info")).json()
            assert info["modality_supported"] == ["image-latents", "video-latents"]
            assert "delta+int8" in info["video_pipelines"]
            assert [entry["model"] for entry in info["models"]] == ["tiny-sd", "wan"]
            assert (info["models"][1]["temporal_factor"], info["models"][1]["frame_multiple"]) == (4, 4)
            models = await (await http.get("/v1/models")).json()
            assert [(entry["id"], entry["latent_space"]) for entry in models["data"]] == [
                ("tiny-sd", "tiny-sd-vae"),
                ("wan", "wan-vae"),
            ]
            assert (await (await http.get("/v1/models/wan")).json())["latent_space"] == "wan-vae"
            index = await (await http.get("/.well-known/codec/index.json")).json()
            assert [entry["id"] for entry in index["latents"]] == ["tiny-sd-vae", "wan-vae"]
            for entry in index["latents"]:
                assert (await (await http.get(entry["url"])).json(content_type=None))["id"] == entry["id"]
        answer = await servers.stub.GetLatentMap(pb.GetLatentMapRequest(latent_space="wan-vae"))
        assert b"AutoencoderKLWan" in answer.document
        found = await fetch_map(str(servers.http._base_url).rstrip("/"))
        assert found.latent_map.id == "tiny-sd-vae"


async def test_motion_adapter_as_video_model_uses_the_image_model(models_dir: Path) -> None:
    async with run_two_models(models_dir, model="tiny-sd", video_model="motion", latent_space="embedded") as servers:
        assert len(servers.service.models) == 1
        for endpoint, count in (("images", 1), ("videos", 5)):
            body = VIDEO if endpoint == "videos" else IMAGE
            answer = await servers.http.post(f"/v1/{endpoint}/generations", json=body)
            header, frames = read_stream(await answer.read(), WireFormat.MSGPACK)
            assert (header.latent_space_id, len(frames)) == ("embedded", count)
        info = await (await servers.http.get("/codec/info")).json()
        assert "delta+int4" in info["video_pipelines"]
        assert "int8" in info["image_pipelines"]


async def test_video_model_can_be_the_only_model(models_dir: Path) -> None:
    async with run_two_models(models_dir, video_model="moving") as servers:
        answer = await servers.http.post("/v1/videos/generations", json=VIDEO | {"pipeline": "delta+int4"})
        assert len(read_stream(await answer.read(), WireFormat.MSGPACK)[1]) == 5
        response = await servers.http.post("/v1/images/generations", json=IMAGE)
        assert response.status == 415
