"""The same request gives the same header and frames over gRPC, HTTP and the gateway, in both wire formats.

Also compared: the bytes with the published reference encoder, the body sizes with those in the README, parallel with
sequential requests, and errors and cancellation through the gateway with those of a direct connection.
"""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from codec_wire import WireFormat, encode
from codec_wire.decoder import LatentDecoder
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.latents import LatentFrame, LatentStreamHeader
from codec_wire.protobuf_envelope import frame_from_message, header_from_message
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from tests.support.fake_engine import FakeEngine
from tests.support.oracle import reference_messages
from tests.support.serving import MODEL, VIDEO_MODEL, Servers, read_stream, run_http_gateway, run_servers

pytestmark = pytest.mark.slow

Stream = tuple[LatentStreamHeader, list[LatentFrame]]


async def generate_over_grpc(servers: Servers, body: dict[str, Any]) -> Stream:
    fields = {name: value for name, value in body.items() if name not in ("size", "modality")}
    width, height = (int(side) for side in body["size"].split("x"))
    modality = pb.MODALITY_VIDEO_LATENTS if "video" in body["modality"] else pb.MODALITY_IMAGE_LATENTS
    call = servers.stub.Generate(
        pb.GenerateRequest(**fields, size=pb.PixelSize(width=width, height=height), modality=modality)
    )
    header, *frames = [message async for message in call]
    return header_from_message(header.header), [frame_from_message(message.frame) for message in frames]


async def generate_over_http(http: Any, body: dict[str, Any], wire_format: WireFormat) -> tuple[Stream, bytes]:
    kind = "videos" if "video" in body["modality"] else "images"
    response = await http.post(f"/v1/{kind}/generations", json=body | {"stream_format": wire_format})
    assert response.status == 200, await response.text()
    content = await response.read()
    return read_stream(content, wire_format), content


IMAGE = {"prompt": "a snowy mountain", "modality": "image-latents", "size": "64x48", "steps": 3, "seed": 7}


@pytest.mark.parametrize("pipeline", ["raw", "int8", "int4", "int8-adaptive", "int4-adaptive"])
async def test_image_is_identical_over_all_protocols(
    engine: DiffusersEngine, tiny_model: LoadedModel, pipeline: str
) -> None:
    body = IMAGE | {"pipeline": pipeline, "negative_prompt": "fog", "guidance_scale": 2.5}
    async with run_servers(engine, tiny_model.info) as servers, run_http_gateway(servers.grpc_address) as (_, gateway):
        expected = await generate_over_grpc(servers, body)
        bodies = {}
        for name, http in (("direct", servers.http), ("gateway", gateway)):
            for wire_format in WireFormat:
                stream, bodies[name, wire_format] = await generate_over_http(http, body, wire_format)
                assert stream == expected
        for wire_format in WireFormat:
            assert bodies["direct", wire_format] == bodies["gateway", wire_format]
            parts = [encode(expected[0], wire_format), *(encode(frame, wire_format) for frame in expected[1])]
            assert bodies["direct", wire_format] == b"".join(parts)


@pytest.mark.parametrize("pipeline", ["raw", "int8", "delta+int8", "delta+int4", "int4-adaptive"])
async def test_video_is_identical_over_all_protocols(pipeline: str) -> None:
    body = {"prompt": "a sea", "modality": "video-latents", "size": "64x64", "steps": 1, "frames": 5, "fps": 6}
    body |= {"pipeline": pipeline, "keyframe_interval": 2}
    async with (
        run_servers(FakeEngine(free_running=True), VIDEO_MODEL) as servers,
        run_http_gateway(servers.grpc_address) as (_, gateway),
    ):
        expected = await generate_over_grpc(servers, body)
        assert len(expected[1]) == 5
        for http in (servers.http, gateway):
            for wire_format in WireFormat:
                assert (await generate_over_http(http, body, wire_format))[0] == expected


async def test_body_equals_that_of_the_reference_encoder(engine: DiffusersEngine, tiny_model: LoadedModel) -> None:
    """The reference encoder is given the latents of the raw stream of the same request."""
    async with run_servers(engine, tiny_model.info) as servers:
        raw, _ = await generate_over_http(servers.http, IMAGE | {"pipeline": "raw"}, WireFormat.MSGPACK)
        latent = LatentDecoder(raw[0]).decode(raw[1][0])
        for pipeline in ("raw", "int8", "int4", "int8-adaptive", "int4-adaptive"):
            scales = servers.service.models.require_default().bundle.static_scales(pipeline)
            header = replace(raw[0], pipeline=pipeline, scales=scales)
            for wire_format in WireFormat:
                _, body = await generate_over_http(servers.http, IMAGE | {"pipeline": pipeline}, wire_format)
                assert body == b"".join(reference_messages(header, [latent], [True], wire_format))


@pytest.mark.parametrize(
    ("size", "pipeline", "msgpack_size", "protobuf_size"),
    [
        ("256x256", "raw", 8342, 8258),
        ("256x256", "int8", 4264, 4173),
        ("256x256", "int4", 2216, 2125),
        ("512x512", "raw", 32918, 32835),
        ("512x512", "int8", 16552, 16462),
        ("512x512", "int4", 8360, 8269),
    ],
)
async def test_bodies_have_the_sizes_in_the_readme(
    engine: DiffusersEngine,
    tiny_model: LoadedModel,
    size: str,
    pipeline: str,
    msgpack_size: int,
    protobuf_size: int,
) -> None:
    async with run_servers(engine, tiny_model.info) as servers:
        body = IMAGE | {"size": size, "pipeline": pipeline, "steps": 1}
        for wire_format, expected in ((WireFormat.MSGPACK, msgpack_size), (WireFormat.PROTOBUF, protobuf_size)):
            _, content = await generate_over_http(servers.http, body, wire_format)
            assert len(content) == expected


async def test_parallel_requests_give_the_same_latents_as_sequential_ones(
    engine: DiffusersEngine, tiny_model: LoadedModel
) -> None:
    bodies = [IMAGE | {"seed": seed, "pipeline": ("raw", "int8-adaptive")[seed % 2]} for seed in range(8)]

    async def generate(servers: Servers, index: int) -> Stream:
        if index % 2:
            return await generate_over_grpc(servers, bodies[index])
        return (await generate_over_http(servers.http, bodies[index], WireFormat.MSGPACK))[0]

    async with run_servers(engine, tiny_model.info) as servers:
        sequential = [await generate(servers, index) for index in range(8)]
        parallel = await asyncio.gather(*(generate(servers, index) for index in range(8)))
    assert parallel == sequential
    assert len({stream[1][0].data for stream in sequential}) == 8


async def test_gateway_returns_the_errors_of_the_server() -> None:
    async with (
        run_servers(FakeEngine(), MODEL, max_jobs=1) as servers,
        run_http_gateway(servers.grpc_address) as (_, gateway),
    ):
        running = servers.stub.Generate(pb.GenerateRequest(prompt="x", size=pb.PixelSize(width=64, height=64)))
        await running.read()
        body = IMAGE | {"stream_format": "msgpack"}
        rejected = await gateway.post("/v1/images/generations", json=body)
        assert rejected.status == 429
        assert int(rejected.headers["Retry-After"]) >= 1
        invalid = await gateway.post("/v1/images/generations", json=body | {"steps": 0})
        assert (invalid.status, (await invalid.json())["error"]["param"]) == (400, "steps")
        running.cancel()


async def test_gateway_passes_on_the_400_for_steps_that_the_scheduler_refuses() -> None:
    model = replace(MODEL, accepts_steps=lambda _mode, steps, _strength: steps <= 8)
    async with (
        run_servers(FakeEngine(), model) as servers,
        run_http_gateway(servers.grpc_address) as (_, gateway),
    ):
        responses = []
        for http in (servers.http, gateway):
            response = await http.post("/v1/images/generations", json=IMAGE | {"pipeline": "raw", "steps": 9})
            headers = {name: response.headers.get(name) for name in ("Content-Type", "Cache-Control", "Retry-After")}
            responses.append((response.status, headers, await response.json()))
        assert responses[0] == responses[1]
        status, _, body = responses[0]
        assert (status, body["error"]["param"], body["error"]["code"]) == (400, "steps", "invalid_request")
        assert body["error"]["message"] == "steps: must be from 1 to 8 for the scheduler of tiny-sd, got 9"
        assert servers.service.admission.jobs == 0


async def test_disconnecting_from_the_gateway_cancels_the_job_on_the_server() -> None:
    engine = FakeEngine()
    async with run_servers(engine) as servers, run_http_gateway(servers.grpc_address) as (service, gateway):
        response = await gateway.post("/v1/images/generations", json=IMAGE | {"stream_format": "msgpack", "steps": 30})
        await engine.wait_until_started(1)
        response.close()
        await engine.wait_until_ended(1)
        assert (engine.finished, service.admission.jobs) == (0, 0)


async def test_error_on_the_server_is_the_final_frame_of_the_gateway() -> None:
    engine = FakeEngine(free_running=True)
    engine.fail_with = RuntimeError("secret")
    async with run_servers(engine) as servers, run_http_gateway(servers.grpc_address) as (_, gateway):
        (header, frames), body = await generate_over_http(gateway, IMAGE, WireFormat.MSGPACK)
        assert header.pipeline == "raw"
        assert [(frame.seq, frame.finish_reason, frame.data) for frame in frames] == [(0, "error", b"")]
        assert b"secret" not in body
