"""Clients that stop reading: their job ends at the request timeout, and other requests do not wait for them."""

import asyncio
import json
from dataclasses import replace

import pytest

from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from tests.support.fake_engine import FakeEngine
from tests.support.held_sampler import wait_until_no_jobs
from tests.support.http_requests import JSON, VIDEOS, request_head
from tests.support.serving import VIDEO_MODEL, run_servers

LARGE_VIDEO = replace(VIDEO_MODEL, name="large-video", default_size=(2048, 2048))
FRAMES = 120
"""Frames of 0.5 MB each: more in all than the socket buffers can hold."""
REQUEST_TIMEOUT_S = 1.0


@pytest.mark.slow
async def test_http_client_that_stops_reading_is_disconnected_at_the_request_timeout() -> None:
    engine = FakeEngine(free_running=True)
    async with run_servers(engine, LARGE_VIDEO, request_timeout_s=REQUEST_TIMEOUT_S) as servers:
        assert servers.http._base_url is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", servers.http._base_url.port, limit=1024)
        body = json.dumps({"prompt": "x", "stream_format": "msgpack", "frames": FRAMES, "steps": 1}).encode()
        writer.write(request_head(VIDEOS, len(body)) + body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        assert servers.service.admission.jobs == 1
        other = await servers.http.post(VIDEOS, data=body.replace(b"120", b"1"), headers=JSON)
        assert len(await other.read()) > 500_000  # not delayed by the slow client
        await wait_until_no_jobs(servers)
        assert engine.finished == 1
        writer.close()


@pytest.mark.slow
async def test_grpc_client_that_stops_reading_is_cancelled_at_the_request_timeout() -> None:
    engine = FakeEngine(free_running=True)
    async with run_servers(engine, LARGE_VIDEO, request_timeout_s=REQUEST_TIMEOUT_S) as servers:
        call = servers.stub.Generate(
            pb.GenerateRequest(prompt="x", modality=pb.MODALITY_VIDEO_LATENTS, frames=FRAMES, steps=1)
        )
        assert (await call.read()).HasField("header")
        assert servers.service.admission.jobs == 1
        await wait_until_no_jobs(servers)
        assert engine.finished == 0
        call.cancel()
