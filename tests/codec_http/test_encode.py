"""The encode endpoint: parameters, invalid requests, and its job."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from codec_wire import WireFormat
from core.probe import sample_image
from tests.support.fake_engine import FakeEngine
from tests.support.fake_vae import FakeVae
from tests.support.http_requests import read_error
from tests.support.serving import MODEL, read_stream, run_http_gateway, run_servers

ENCODE = "/v1/latents/encode"
IMAGE = sample_image(0, 64)


async def test_query_selects_model_size_pipeline_and_format() -> None:
    vae = FakeVae(free_running=True)
    async with run_servers(FakeEngine(), vae=vae) as servers:
        query = f"model=little&size=32x16&pipeline=int8&stream_format=protobuf&latent_space={MODEL.latent_space}"
        response = await servers.http.post(f"{ENCODE}?{query}", data=IMAGE)
        assert response.status == 200, await response.text()
        header, frames = read_stream(await response.read(), WireFormat.PROTOBUF)
        assert (header.pipeline, header.shape, len(frames)) == ("int8", (4, 2, 4), 1)
        assert response.headers["Codec-Model"] == MODEL.name


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ("colour=red", 400, "colour"),
        ("size=30x30", 400, "size"),
        ("size=x", 400, "size"),
        ("pipeline=int9", 400, "pipeline"),
        ("stream_format=json", 400, "stream_format"),
        ("model=other", 404, "model"),
        ("latent_space=a/b", 404, "latent_space"),
    ],
)
async def test_invalid_parameter_is_named(query: str, status: int, field: str) -> None:
    async with run_servers(FakeEngine(), vae=FakeVae()) as servers:
        response = await servers.http.post(f"{ENCODE}?{query}", data=IMAGE)
        assert (response.status, (await read_error(response))["param"]) == (status, field)


async def test_file_that_is_not_an_image_or_video_returns_400() -> None:
    async with run_servers(FakeEngine(), vae=FakeVae()) as servers:
        for body in (b"", b"GIF89a", b"hello"):
            response = await servers.http.post(ENCODE, data=body)
            assert (response.status, (await read_error(response))["param"]) == (400, "file")


async def test_body_over_the_limit_returns_413() -> None:
    async with run_servers(FakeEngine(), vae=FakeVae()) as servers:
        response = await servers.http.post(ENCODE, data=zeros(40))
        assert response.status == 413


async def zeros(mebibytes: int) -> AsyncIterator[bytes]:
    for _ in range(mebibytes):
        yield bytes(2**20)


async def test_request_over_the_job_limit_returns_429() -> None:
    vae = FakeVae()
    async with run_servers(FakeEngine(), vae=vae, max_jobs=1) as servers:
        running = asyncio.create_task(servers.http.post(ENCODE, data=IMAGE))
        while not vae.encode_plans:
            await asyncio.sleep(0)
        assert (await servers.http.post(ENCODE, data=IMAGE)).status == 429
        vae.release_frames(1)
        assert (await running).status == 200


async def test_failure_returns_its_status_directly_and_through_a_gateway() -> None:
    vae = FakeVae(free_running=True)
    vae.fail_at = 0
    async with run_servers(FakeEngine(), vae=vae) as servers, run_http_gateway(servers.grpc_address) as (_, gateway):
        for http in (servers.http, gateway):
            response = await http.post(ENCODE, data=IMAGE)
            assert response.status == 500
            assert "secret" not in await response.text()
