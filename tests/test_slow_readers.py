"""Clients that stop reading keep neither their place nor anybody waiting, on either protocol."""

import asyncio
import json
from dataclasses import replace

from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from tests.support.fake_engine import FakeEngine
from tests.support.serving import VIDEO_MODEL, Servers, run_servers

LARGE_VIDEO = replace(VIDEO_MODEL, name="large-video", default_size=(2048, 2048))
FRAMES = 120
"""Half a megabyte each: more than all buffers between the two ends hold."""


async def place_is_free(servers: Servers) -> None:
    async with asyncio.timeout(10):
        await servers.service.admission.wait_idle()


async def test_an_http_client_that_does_not_read_is_given_up_at_its_deadline() -> None:
    engine = FakeEngine(free_running=True)
    async with run_servers(engine, LARGE_VIDEO, request_timeout_s=2.0) as servers:
        assert servers.http._base_url is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", servers.http._base_url.port, limit=1024)
        body = json.dumps({"prompt": "x", "stream_format": "msgpack", "frames": FRAMES, "steps": 1}).encode()
        head = f"POST /v1/videos/generations HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        assert servers.service.admission.jobs == 1
        other = await servers.http.post("/v1/videos/generations", data=body.replace(b"120", b"1"))
        assert len(await other.read()) > 500_000  # nobody waits for the slow one
        await place_is_free(servers)
        assert engine.finished == 1
        writer.close()


async def test_a_grpc_client_that_does_not_read_is_given_up_at_the_servers_limit() -> None:
    engine = FakeEngine(free_running=True)
    async with run_servers(engine, LARGE_VIDEO, request_timeout_s=2.0) as servers:
        call = servers.stub.Generate(
            pb.GenerateRequest(prompt="x", modality=pb.MODALITY_VIDEO_LATENTS, frames=FRAMES, steps=1)
        )
        assert (await call.read()).HasField("header")
        assert servers.service.admission.jobs == 1
        await place_is_free(servers)
        assert engine.finished == 0
        call.cancel()
