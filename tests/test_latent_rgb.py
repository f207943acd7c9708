"""The latent-to-RGB matrix of a calibrated model: served over HTTP, gRPC and a gateway, and used by the clients."""

import asyncio
from pathlib import Path

import pytest

from codec_client import GrpcClient, HttpClient
from codec_server.local_model import LocalModel
from codec_wire.errors import NotFound
from codec_wire.maps.latent_rgb import LatentRgb
from core.admission import Admission
from core.lifecycle import Lifecycle
from core.service import LatentService
from core.settings import Settings
from tests.support.fake_engine import FakeEngine
from tests.support.serving import http_address, run_http_gateway, run_servers, run_servers_for
from tests.support.tiny_sd import build_pipeline

pytestmark = pytest.mark.slow

SPACE = "model-vae"


async def test_matrix_measured_at_the_start_is_served_to_every_client(tmp_path: Path) -> None:
    build_pipeline(8).save_pretrained(tmp_path / "model")
    settings = Settings(models_dir=tmp_path, model="model", threads=1, calibration_images=1, device="cpu")
    local, service = LocalModel(settings), LatentService(Lifecycle(), Admission(8, 10**12))
    try:
        await local.start_serving(service)
    finally:
        await asyncio.to_thread(local.free)
    stored = LatentRgb.parse((tmp_path / "latent-spaces" / SPACE / "latent_rgb.json").read_bytes())
    async with run_servers_for(service) as servers, run_http_gateway(servers.grpc_address) as (_, gateway):
        for http in (servers.http, gateway):
            info = await (await http.get("/codec/info")).json()
            assert info["latent_rgb_url"] == info["models"][0]["latent_rgb_url"]
            response = await http.get(info["latent_rgb_url"])
            assert LatentRgb.parse(await response.read()) == stored
            index = await (await http.get("/.well-known/codec/index.json")).json()
            assert index["latents"][0]["rgb_url"] == info["latent_rgb_url"]
            cached = await http.get(info["latent_rgb_url"], headers={"If-None-Match": response.headers["ETag"]})
            assert cached.status == 304
        for client in (
            HttpClient(http_address(servers)),
            HttpClient(str(gateway._base_url)),
            GrpcClient(servers.grpc_address),
        ):
            async with client:
                matrix = await client.latent_rgb()
                assert matrix == await client.latent_rgb(SPACE) == stored
                with pytest.raises(NotFound):
                    await client.latent_rgb("other/vae")
    bundle = service.models.require_default().bundle
    assert b"rgb" not in bundle.document


async def test_server_without_matrix_says_so() -> None:
    async with run_servers(FakeEngine()) as servers:
        info = await (await servers.http.get("/codec/info")).json()
        assert info["latent_rgb_url"] is None
        response = await servers.http.get("/.well-known/codec/rgb/stabilityai/sd-vae-ft-mse.json")
        assert response.status == 404
        for client in (HttpClient(http_address(servers)), GrpcClient(servers.grpc_address)):
            async with client:
                with pytest.raises(NotFound, match="no latent-to-RGB matrix"):
                    await client.latent_rgb()
