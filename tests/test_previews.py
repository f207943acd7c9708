"""Previews over every protocol: they are the clean estimates, and do not change the result."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from codec_client import GrpcClient, HttpClient, PreviewLatents
from codec_wire import WireFormat, encode
from codec_wire.decoder import LatentDecoder
from codec_wire.errors import InvalidRequest
from codec_wire.events import preview_header
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.protobuf_envelope import frame_from_message
from codec_wire.server_sent_events import ServerSentEventReader, message_bytes
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import IMAGES
from tests.support.serving import MODEL, Servers, http_address, read_stream, run_http_gateway, run_servers

pytestmark = pytest.mark.slow

FIELDS = {"prompt": "a sea", "size": "64x64", "steps": 7, "seed": 5, "pipeline": "int8"}
SSE = {"Accept": "text/event-stream"}


@pytest.fixture
async def servers(engine: DiffusersEngine, tiny_model: LoadedModel) -> AsyncIterator[Servers]:
    async with run_servers(engine, tiny_model.info) as running:
        yield running


async def body_without_previews(http: Any, wire_format: WireFormat = WireFormat.MSGPACK) -> bytes:
    response = await http.post(IMAGES, json=FIELDS | {"stream_format": wire_format})
    assert response.status == 200, await response.text()
    return bytes(await response.read())


async def events_of(http: Any, fields: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    response = await http.post(IMAGES, json=FIELDS | fields, headers=SSE)
    assert (response.status, response.content_type) == (200, "text/event-stream"), await response.text()
    return list(ServerSentEventReader().feed(await response.read()))


@pytest.mark.parametrize("wire_format", WireFormat)
async def test_events_contain_progress_previews_and_the_body(servers: Servers, wire_format: WireFormat) -> None:
    expected = await body_without_previews(servers.http, wire_format)
    header, _ = read_stream(expected, wire_format)
    async with run_http_gateway(servers.grpc_address) as (_, gateway):
        received = [
            await events_of(http, {"preview_every": 3, "stream_format": wire_format})
            for http in (servers.http, gateway)
        ]
    assert received[0] == received[1]
    events = received[0]
    assert b"".join(message_bytes(data) for name, data in events if name in ("header", "frame")) == expected
    names = [name for name, _ in events]
    assert [name for name in names if name != "progress"] == ["header", "preview", "preview", "frame"]
    assert [data["step"] for name, data in events if name == "progress"] == list(range(1, 8))
    for name, data in events:
        if name == "preview":
            preview = encode(preview_header(header), wire_format) + message_bytes(data)
            assert (data["step"] in (3, 6), data["total_steps"]) == (True, 7)
            assert len(read_stream(preview, wire_format)[1][0].data) == 4 * 2 + 4 * 8 * 8 // 2


async def test_previews_approach_the_result_and_do_not_change_it(servers: Servers) -> None:
    expected = read_stream(await body_without_previews(servers.http), WireFormat.MSGPACK)
    size = pb.PixelSize(width=64, height=64)
    message = pb.GenerateRequest(prompt="a sea", size=size, steps=7, seed=5, pipeline="int8", preview_every=1)
    messages = [response async for response in servers.stub.Generate(message)]
    kinds = [response.WhichOneof("event") for response in messages]
    assert kinds == ["header", *["preview"] * 6, "frame"]
    assert frame_from_message(messages[-1].frame) == expected[1][0]
    header = expected[0]
    final = LatentDecoder(header).decode(expected[1][0])
    decoded = [
        LatentDecoder(preview_header(header)).decode(frame_from_message(one.preview.frame)) for one in messages[1:-1]
    ]
    distances = [float(np.linalg.norm(values - final)) for values in decoded]
    assert distances == sorted(distances, reverse=True)


@pytest.mark.parametrize("client_class", [HttpClient, GrpcClient])
async def test_clients_report_previews(servers: Servers, client_class: type) -> None:
    expected = LatentDecoder(read_stream(await body_without_previews(servers.http), WireFormat.MSGPACK)[0]).decode(
        read_stream(await body_without_previews(servers.http), WireFormat.MSGPACK)[1][0]
    )
    previews: list[PreviewLatents] = []
    steps: list[int | None] = []
    fields = {name: value for name, value in FIELDS.items() if name != "prompt"} | {"size": (64, 64)}
    async with client_class(servers.grpc_address if client_class is GrpcClient else http_address(servers)) as client:
        result = await client.generate(
            "a sea", on_preview=previews.append, on_progress=lambda progress: steps.append(progress.step), **fields
        )
        assert np.array_equal(result.latents[0], expected)
        assert [(preview.step, preview.total_steps, preview.latents.shape) for preview in previews] == [
            (5, 7, (4, 8, 8))
        ]
        assert steps[-1] == 7
        previews.clear()
        await client.generate("a sea", on_preview=previews.append, preview_every=2, **fields)
        assert [preview.step for preview in previews] == [2, 4, 6]
        with pytest.raises(InvalidRequest, match="^size: "):
            await client.generate("a sea", on_preview=previews.append, **fields | {"size": (63, 64)})


async def test_previews_over_http_need_the_media_type_of_events(servers: Servers) -> None:
    response = await servers.http.post(IMAGES, json=FIELDS | {"preview_every": 3})
    error = (await response.json())["error"]
    assert (response.status, error["param"]) == (400, "preview_every")
    assert "Accept: text/event-stream" in error["message"]


async def test_model_without_previews_refuses_them() -> None:
    async with run_servers(FakeEngine(free_running=True), MODEL) as servers:
        response = await servers.http.post(IMAGES, json=FIELDS | {"preview_every": 3}, headers=SSE)
        assert (response.status, (await response.json())["error"]["param"]) == (400, "preview_every")


async def test_failure_is_the_last_event() -> None:
    engine = FakeEngine(free_running=True)
    engine.fail_with = RuntimeError("secret")
    async with run_servers(engine, replace(MODEL, default_size=(64, 64))) as servers:
        response = await servers.http.post(IMAGES, json=FIELDS, headers=SSE)
        events = list(ServerSentEventReader().feed(await response.read()))
        assert [name for name, _ in events] == ["header", "frame", "error"]
        assert events[-1][1]["error"]["code"] == "internal"
        assert "secret" not in json.dumps(events)
        async with HttpClient(http_address(servers), retries=0) as client:
            engine.fail_with = RuntimeError("secret")
            with pytest.raises(InvalidRequest, match="^preview_every: is not supported"):
                await client.generate("a sea", preview_every=1)
