"""Servers that only decode, and servers without a VAE: what they answer over HTTP, gRPC and a gateway."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from codec_client import GrpcClient, HttpClient
from codec_server.local_model import LocalModel
from codec_wire.errors import UnsupportedModality
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.wire_format import WireFormat
from core.admission import Admission
from core.lifecycle import Lifecycle
from core.probe import sample_image
from core.role import Role
from core.service import LatentService
from core.settings import Settings
from tests.support.serving import Servers, http_address, read_stream, run_http_gateway, run_servers_for

pytestmark = pytest.mark.slow

IMAGES, DECODE, ENCODE = "/v1/images/generations", "/v1/latents/decode", "/v1/latents/encode"
REQUEST = {"prompt": "a sea", "stream_format": "msgpack", "size": "64x64", "steps": 2}
RENDERED = {"prompt": "a sea", "size": "64x64", "steps": 2}
PHOTO = sample_image(3, side=64)
PNG = {"Accept": "image/png"}


@asynccontextmanager
async def run_role(models_dir: Path, role: Role, **fields: Any) -> AsyncIterator[tuple[LocalModel, Servers]]:
    settings = Settings(models_dir=models_dir, threads=1, device="cpu", **{"model": "tiny-sd"} | fields)
    local = LocalModel(settings, role)
    service = LatentService(Lifecycle(), Admission(8, 10**12))
    try:
        await local.start_serving(service)
        async with run_servers_for(service) as servers:
            yield local, servers
    finally:
        await asyncio.to_thread(local.free)


async def message_of(response: Any, status: int) -> str:
    """Return the message of an error response that has this status."""
    assert response.status == status, await response.text()
    return str((await response.json())["error"]["message"])


async def post(http: Any, path: str, **options: Any) -> bytes:
    response = await http.post(path, **options)
    assert response.status == 200, await response.text()
    return bytes(await response.read())


async def test_roles_together_give_what_a_complete_server_gives(models_dir: Path) -> None:
    async with (
        run_role(models_dir, Role.ALL) as (_, complete),
        run_role(models_dir, Role.GENERATOR) as (_, generator),
        run_role(models_dir, Role.DECODER) as (_, decoder),
        run_http_gateway(generator.grpc_address) as (_, generator_gateway),
        run_http_gateway(decoder.grpc_address) as (_, decoder_gateway),
    ):
        latents = await post(complete.http, IMAGES, json=REQUEST)
        pixels = await post(complete.http, DECODE, data=latents, headers=PNG)
        encoded = await post(complete.http, ENCODE, data=PHOTO)
        from_latents = REQUEST | {"latents": base64.b64encode(encoded).decode(), "strength": 0.5}
        changed = await post(complete.http, IMAGES, json=from_latents)
        for http in (generator.http, generator_gateway):
            assert await post(http, IMAGES, json=REQUEST) == latents
            assert await post(http, IMAGES, json=from_latents) == changed
        for http in (decoder.http, decoder_gateway):
            assert await post(http, DECODE, data=latents, headers=PNG) == pixels
            assert await post(http, ENCODE, data=PHOTO) == encoded
        async with GrpcClient(decoder.grpc_address) as client:
            decoded = await client.decode(latents)
        async with HttpClient(http_address(complete)) as client:
            assert np.array_equal(decoded.frames, (await client.decode(latents)).frames)
        header, frames = read_stream(latents, WireFormat.MSGPACK)
        query = "?shape=1&shape=4&shape=8&shape=8&dtype=float16&scaling_factor=0.18215&output_type=pt"
        assert header.shape == (4, 8, 8)
        tensors = [await post(one.http, f"/hf/decode{query}", data=frames[0].data) for one in (complete, decoder)]
        assert tensors[0] == tensors[1]


async def test_decoder_refuses_to_generate_and_reports_its_role(models_dir: Path) -> None:
    async with (
        run_role(models_dir, Role.DECODER) as (local, servers),
        run_http_gateway(servers.grpc_address) as (_, gateway),
    ):
        for http in (servers.http, gateway):
            for body in (REQUEST, RENDERED):
                message = await message_of(await http.post(IMAGES, json=body), 415)
                assert "does not generate" in message
                assert "--role decoder" in message
                assert DECODE in message
            info = await (await http.get("/codec/info")).json()
            assert (info["role"], info["models"][0]["role"]) == ("decoder", "decoder")
            assert (info["modality_supported"], info["rendered_formats"], info["models"][0]["forms"]) == ([], [], [])
            assert info["models"][0]["decodes"]
            assert (await http.get("/health")).status == 200
            assert (await http.get("/.well-known/codec/latents/tiny-sd-vae.json")).status == 200
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await servers.stub.Generate(pb.GenerateRequest(prompt="a sea")).read()
        assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "does not generate" in str(failure.value.details())
        described = (await servers.stub.GetServerInfo(pb.GetServerInfoRequest())).models[0]
        assert (described.generates, described.decodes, described.encodes) == (False, True, True)
        for client in (HttpClient(http_address(servers)), GrpcClient(servers.grpc_address)):
            async with client:
                assert [model.modalities for model in await client.models()] == [()]
                with pytest.raises(UnsupportedModality, match="does not generate"):
                    await client.generate("a sea")
        await local.probe()


async def test_server_without_vae_refuses_pixels_and_reports_its_role(models_dir: Path) -> None:
    async with (
        run_role(models_dir, Role.GENERATOR) as (local, servers),
        run_http_gateway(servers.grpc_address) as (_, gateway),
    ):
        latents = await post(servers.http, IMAGES, json=REQUEST)
        from_image = REQUEST | {"image": base64.b64encode(PHOTO).decode()}
        for http in (servers.http, gateway):
            assert "--no-vae" in await message_of(await http.post(IMAGES, json=RENDERED), 415)
            for path, body in ((DECODE, latents), (ENCODE, PHOTO), ("/hf/encode", PHOTO)):
                message = await message_of(await http.post(path, data=body, headers=PNG), 415)
                assert "role is generator" in message
                assert "--role decoder" in message
            message = await message_of(await http.post(IMAGES, json=from_image), 400)
            assert "image: must be sent as `latents`" in message
            info = await (await http.get("/codec/info")).json()
            assert (info["role"], info["models"][0]["decodes"], info["rendered_formats"]) == ("generator", False, [])
            assert "image-latents from a prompt and latents" in info["models"][0]["forms"]
        described = (await servers.stub.GetServerInfo(pb.GetServerInfoRequest())).models[0]
        assert (described.generates, described.decodes, described.encodes) == (True, False, False)
        await local.probe()


async def test_decoder_of_a_model_without_map_serves_its_basic_pipelines(models_dir: Path, tmp_path: Path) -> None:
    async with run_role(tmp_path, Role.DECODER, model=str(models_dir / "tiny-sd" / "vae"), latent_space="x/y") as (
        _,
        servers,
    ):
        info = await (await servers.http.get("/codec/info")).json()
        assert info["latent_space_id"] == "x/y"
        assert info["models"][0]["pipelines"] == ["raw", "int8-adaptive", "int4-adaptive"]
        encoded = await post(servers.http, ENCODE, data=PHOTO)
        assert (await post(servers.http, DECODE, data=encoded, headers=PNG)).startswith(b"\x89PNG")
