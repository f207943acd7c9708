"""A real Envoy with the configuration in deploy/envoy, in front of a real server: every protocol."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import numpy as np
import pytest
from aiohttp import hdrs
from google.protobuf import json_format

from codec_client import GrpcClient
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceStub
from codec_wire.generated.codec.latents.v1.stream_pb2 import LatentStreamHeader
from codec_wire.grpc import CHANNEL_OPTIONS
from codec_wire.latents import Modality
from core.engine import Engine
from core.model import ModelInfo
from tests.support.envoy import Envoy, addresses_of, configuration, needs_envoy, run_envoy
from tests.support.fake_engine import FakeEngine
from tests.support.grpc_requests import request
from tests.support.grpc_web import CONTENT_TYPE, GrpcWebReader, frame
from tests.support.http_requests import IMAGES, JSON, LATENTS
from tests.support.noise_engine import NoiseEngine
from tests.support.serving import (
    LATENT_SPACE,
    MODEL,
    VIDEO_MODEL,
    Servers,
    plain_session,
    run_servers,
)

pytestmark = [pytest.mark.slow, needs_envoy]

GENERATE = "/codec.latents.v1.LatentService/Generate"
VIDEO: dict[str, Any] = {"modality": pb.MODALITY_VIDEO_LATENTS, "frames": 5, "pipeline": "delta+int8", "progress": True}


@asynccontextmanager
async def proxied(engine: Engine, folder: Path, model: ModelInfo = MODEL) -> AsyncIterator[tuple[Servers, Envoy]]:
    """Run a server for `engine`, and Envoy in front of it."""
    async with (
        run_servers(engine, model) as servers,
        run_envoy(configuration([addresses_of(servers)]), folder) as envoy,
    ):
        yield servers, envoy


async def direct_messages(servers: Servers) -> list[pb.GenerateResponse]:
    """Return the messages of a video from the server itself."""
    return [message async for message in servers.stub.Generate(request(**VIDEO))]


async def test_grpc_client_receives_the_bytes_of_the_server(tmp_path: Path) -> None:
    async with proxied(NoiseEngine(), tmp_path, VIDEO_MODEL) as (servers, envoy):
        async with grpc.aio.insecure_channel(envoy.grpc, options=CHANNEL_OPTIONS) as channel:
            messages = [message async for message in LatentServiceStub(channel).Generate(request(**VIDEO))]
        assert messages == await direct_messages(servers)
        fields: dict[str, Any] = {"size": (64, 64), "modality": Modality.VIDEO, "frames": 5, "pipeline": "delta+int8"}
        async with (
            GrpcClient(servers.grpc_address, cache_dir=tmp_path) as direct,
            GrpcClient(envoy.grpc, cache_dir=tmp_path) as client,
        ):
            expected, received = [await each.generate("a sea", **fields) for each in (direct, client)]
        assert received.header == expected.header
        assert np.array_equal(received.latents, expected.latents)
        assert received.map_hash == expected.map_hash


async def test_grpc_web_request_receives_the_same_messages(tmp_path: Path) -> None:
    async with (
        proxied(NoiseEngine(), tmp_path, VIDEO_MODEL) as (servers, envoy),
        aiohttp.ClientSession(f"http://{envoy.grpc}", headers={hdrs.CONTENT_TYPE: CONTENT_TYPE}) as session,
    ):
        reader = GrpcWebReader()
        async with session.post(GENERATE, data=frame(request(**VIDEO).SerializeToString())) as response:
            assert (response.status, response.content_type) == (200, CONTENT_TYPE)
            reader.feed(await response.read())
        expected = await direct_messages(servers)
        assert [pb.GenerateResponse.FromString(message) for message in reader.messages] == expected
        assert reader.trailers["grpc-status"] == "0"
        async with session.post(GENERATE, data=frame(request(steps=0).SerializeToString())) as response:
            assert response.headers["grpc-status"] == "3"
            assert "steps" in response.headers["grpc-message"]


async def test_json_request_receives_the_same_messages_as_lines(tmp_path: Path) -> None:
    async with (
        proxied(NoiseEngine(), tmp_path, VIDEO_MODEL) as (servers, envoy),
        aiohttp.ClientSession(f"http://{envoy.grpc}") as session,
    ):
        body = json_format.MessageToDict(request(**VIDEO), preserving_proto_field_name=True)
        async with session.post(GENERATE, json=body) as response:
            assert response.status == 200, await response.text()
            lines = (await response.text()).splitlines()
        messages = [json_format.Parse(line, pb.GenerateResponse()) for line in lines]
        assert messages == await direct_messages(servers)
        assert "latent_space_id" in lines[0]
        async with session.post(GENERATE, json=body | {"steps": 0}) as response:
            error = await response.json()
            assert (response.status, error["code"]) == (400, 3)
            assert error["details"][1]["field_violations"][0]["field"] == "steps"
        large = io.BytesIO(json.dumps(body | {"image": "A" * 4 * 2**20}).encode())
        async with session.post(GENERATE, data=large, headers=JSON) as response:
            assert (response.status, "image" in await response.text()) == (400, True)  # it reached the server
        async with session.post(f"{GENERATE}s", json=body) as response:
            assert response.status == 404
        async with session.post(GENERATE, data=json.dumps(body)) as response:  # text/plain: not asked for by browsers
            assert response.status == 415


@asynccontextmanager
async def begin_grpc(envoy: Envoy) -> AsyncIterator[Any]:
    """Begin a request and yield its first message; disconnect on exit. The other functions do the same."""
    async with grpc.aio.insecure_channel(envoy.grpc) as channel:
        stub: Any = LatentServiceStub(channel)
        yield await stub.Generate(request(steps=30)).read()


@asynccontextmanager
async def begin_grpc_web(envoy: Envoy) -> AsyncIterator[Any]:
    body, headers = frame(request(steps=30).SerializeToString()), {hdrs.CONTENT_TYPE: CONTENT_TYPE}
    reader = GrpcWebReader()
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://{envoy.grpc}{GENERATE}", data=body, headers=headers) as response,
    ):
        reader.feed(await response.content.readany())
        yield pb.GenerateResponse.FromString(reader.messages[0])


@asynccontextmanager
async def begin_json(envoy: Envoy) -> AsyncIterator[Any]:
    body = json_format.MessageToDict(request(steps=30))
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://{envoy.grpc}{GENERATE}", json=body) as response,
    ):
        yield json_format.Parse(await response.content.readline(), pb.GenerateResponse())


@asynccontextmanager
async def begin_http(envoy: Envoy) -> AsyncIterator[Any]:
    body = LATENTS | {"steps": 30, "stream_format": "protobuf"}
    async with (
        plain_session(int(envoy.http.rpartition(":")[2])) as session,
        session.post(IMAGES, json=body) as response,
    ):
        size = int.from_bytes(await response.content.readexactly(4), "big")
        header = LatentStreamHeader.FromString(await response.content.readexactly(size))
        yield pb.GenerateResponse(header=header)


@pytest.mark.parametrize("begin", [begin_grpc, begin_grpc_web, begin_json, begin_http])
async def test_messages_are_not_buffered_and_a_disconnect_stops_the_generation(
    begin: Callable[[Envoy], AbstractAsyncContextManager[pb.GenerateResponse]], tmp_path: Path
) -> None:
    engine = FakeEngine()
    async with proxied(engine, tmp_path) as (_, envoy), asyncio.timeout(10):
        async with begin(envoy) as first:  # while the first step is held
            assert first.header.latent_space_id == LATENT_SPACE
        await engine.wait_until_ended(1)
        assert engine.finished == 0
