"""Generation requests over HTTP: negotiation of the format, validation of the body, and the stream."""

import asyncio
import io
import json
from typing import Any

import pytest

from codec_http.body_receiver import MAX_BODY_BYTES
from codec_wire import WireFormat
from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import IMAGES, JSON, LATENTS, VIDEOS, read_error, request_head
from tests.support.serving import LATENT_SPACE, VIDEO_MODEL, read_stream, run_servers


async def test_published_example_request_gets_a_stream_with_all_headers() -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        response = await servers.http.post(
            IMAGES,
            headers={"Accept": "application/x-codec-msgpack", "Accept-Encoding": "zstd"},
            json={
                "model": "little",
                "prompt": "a wide-angle photograph of a snowy mountain at dusk",
                "stream_format": "msgpack",
                "modality": "image-latents",
                "latent_space": LATENT_SPACE,
                "pipeline": "int8-adaptive",
                "size": "768x768",
                "steps": 30,
                "seed": 42,
            },
        )
        assert response.status == 200
        assert response.headers["Content-Type"] == "application/x-msgpack"
        assert response.headers["Codec-Latent-Map"] == servers.service.models.require_default().bundle.hash
        assert (response.headers["Codec-Model"], response.headers["Codec-Seed"]) == ("tiny-sd", "42")
        assert response.headers["Cache-Control"] == "no-store"
        assert "Content-Encoding" not in response.headers
        assert "Codec-Zstd-Dict" not in response.headers
        header, frames = read_stream(await response.read(), WireFormat.MSGPACK)
        assert header.shape == (4, 96, 96)
        assert len(frames) == 1


@pytest.mark.parametrize(
    ("stream_format", "accept", "content_type"),
    [
        ("msgpack", None, "application/x-msgpack"),
        ("protobuf", None, "application/x-protobuf"),
        ("msgpack", "application/codec+msgpack", "application/x-msgpack"),
        ("msgpack", "application/vnd.msgpack", "application/x-msgpack"),
        ("protobuf", "application/x-msgpack", "application/x-protobuf"),
        ("protobuf", "application/x-msgpack, application/x-codec-protobuf;q=0.1", "application/x-protobuf"),
        (None, "application/x-protobuf", "application/x-protobuf"),
        (None, "application/x-protobuf;q=0.2, application/x-msgpack;q=0.5", "application/x-msgpack"),
        (None, "application/x-protobuf;q=0, */*", "application/x-msgpack"),
        (None, "text/html, */*;q=0.8", "application/x-msgpack"),
        (None, "APPLICATION/X-CODEC-MSGPACK", "application/x-msgpack"),
    ],
)
async def test_wire_format_and_content_type_are_negotiated(
    stream_format: str | None, accept: str | None, content_type: str
) -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        body = LATENTS | {"modality": "image-latents", "stream_format": stream_format}
        response = await servers.http.post(IMAGES, json=body, headers={"Accept": accept} if accept else {})
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"] == content_type
        wire_format = WireFormat.PROTOBUF if "protobuf" in content_type else WireFormat.MSGPACK
        read_stream(await response.read(), wire_format)


@pytest.mark.parametrize("stream_format", list(WireFormat))
async def test_video_has_the_same_bytes_with_and_without_chunks(stream_format: WireFormat) -> None:
    fields = {"prompt": "x", "stream_format": stream_format, "frames": 30, "steps": 1, "pipeline": "delta+int8"}
    body = json.dumps(fields).encode()
    async with run_servers(FakeEngine(free_running=True), VIDEO_MODEL) as servers:
        chunked = await servers.http.post(VIDEOS, data=body, headers=JSON)
        assert chunked.headers["Transfer-Encoding"] == "chunked"
        message = await chunked.read()
        assert len(read_stream(message, stream_format)[1]) == 30
        reader, writer = await asyncio.open_connection("127.0.0.1", servers.http_port)
        writer.write(request_head(VIDEOS, len(body), version="1.0") + body)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"chunked" not in head
        assert await reader.read() == message
        writer.close()


@pytest.mark.parametrize(
    ("change", "status", "param", "expected"),
    [
        ({"stream_format": "json"}, 400, "stream_format", "'msgpack' or 'protobuf', got 'json'"),
        ({"prompt": ""}, 400, "prompt", "at least 1 character"),
        ({"prompt": None}, 400, "prompt", "is required"),
        ({"prompt": 5}, 400, "prompt", "got 5"),
        ({"prompt": "x" * 9000}, 400, "prompt", "at most 8192 characters, got 9000"),
        (
            {"model": "sd9"},
            404,
            "model",
            "'sd9' not found; this server serves tiny-sd, little (GET /v1/models); to serve",
        ),
        ({"latent_space": "a/b"}, 404, "latent_space", f"'a/b' not found; allowed: {LATENT_SPACE}"),
        ({"pipeline": "int2"}, 400, "pipeline", "raw, int8, int4, int8-adaptive, int4-adaptive"),
        ({"pipeline": "delta+int8"}, 400, "pipeline", "supports only videos"),
        ({"size": "64"}, 400, "size", '"WIDTHxHEIGHT"'),
        ({"size": "65x64"}, 400, "size", "multiples of 8 from 8 to 2048, got 65x64"),
        ({"size": "0x64"}, 400, "size", "got 0"),
        ({"size": "99999x64"}, 400, "size", "2048"),
        ({"size": [64, 64]}, 400, "size", "got [64, 64]"),
        ({"resolution": "64x64"}, 400, "resolution", "got both"),
        ({"steps": 0}, 400, "steps", "greater than or equal to 1, got 0"),
        ({"steps": 10**9}, 400, "steps", "at most 250"),
        ({"steps": "five"}, 400, "steps", "got 'five'"),
        ({"steps": "2.0"}, 400, "steps", "got '2.0'"),
        ({"steps": 2.5}, 400, "steps", "got 2.5"),
        ({"steps": True}, 400, "steps", "got True"),
        ({"seed": 2**64}, 400, "seed", "from 0 to 18446744073709551615"),
        ({"seed": -2}, 400, "seed", "-1 for a random seed, got -2"),
        ({"guidance_scale": "high"}, 400, "guidance_scale", "got 'high'"),
        ({"guidance_scale": -1}, 400, "guidance_scale", "got -1"),
        ({"fps": 24}, 400, "fps", "only allowed for video-latents"),
        ({"modality": "video-latents"}, 400, "modality", "/v1/videos/generations"),
        ({"modality": "sound"}, 400, "modality", "got 'sound'"),
        ({"n": 2}, 400, "n", "must be 1"),
        ({"stepss": 5}, 400, "stepss", "did you mean 'steps'?"),
        ({"<script>": 5}, 400, "<script>", "allowed: "),
    ],
)
async def test_invalid_field_returns_its_name_the_value_and_the_allowed_values(
    change: dict[str, Any], status: int, param: str, expected: str
) -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        response = await servers.http.post(IMAGES, json=LATENTS | change)
        error = await read_error(response)
        assert (response.status, error["param"], error["type"]) == (status, param, "invalid_request_error")
        assert expected in error["message"]
        assert (await servers.http.post(IMAGES, json=LATENTS)).status == 200


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b'{"prompt": NaN}', b"[" * 10_000, b'{"a":' * 5000]
)
async def test_body_that_is_not_a_json_object_returns_400(body: bytes) -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        response = await servers.http.post(IMAGES, data=body, headers=JSON)
        error = await read_error(response)
        assert (response.status, error["param"]) == (400, "body")
        assert len(error["message"]) < 500


async def test_body_over_the_limit_returns_413() -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        response = await servers.http.post(IMAGES, data=io.BytesIO(b" " * (MAX_BODY_BYTES + 1)), headers=JSON)
        assert response.status == 413
        assert (await read_error(response))["code"] == "too_large"


@pytest.mark.parametrize("extra", [{}, {"n": 1, "response_format": "b64_json", "quality": "auto"}])
async def test_openai_request_to_a_model_that_cannot_render_returns_415(extra: dict[str, Any]) -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        response = await servers.http.post(IMAGES, json={"prompt": "a sea"} | extra)
        assert response.status == 415
        assert (await read_error(response))["supported_modalities"] == ["image-latents"]


async def test_video_request_to_an_image_model_returns_415_with_supported_modalities() -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        response = await servers.http.post(VIDEOS, json=LATENTS)
        assert response.status == 415
        assert (await read_error(response))["supported_modalities"] == ["image-latents"]


@pytest.mark.parametrize("pipeline", ["raw", "delta+int8", "delta+int4", "int8-adaptive"])
async def test_video_stream_has_its_frames_and_keyframes(pipeline: str) -> None:
    async with run_servers(FakeEngine(free_running=True), VIDEO_MODEL) as servers:
        response = await servers.http.post(
            VIDEOS,
            json=LATENTS
            | {"size": None, "pipeline": pipeline, "duration_seconds": 0.5, "fps": 10, "keyframe_interval": 2},
        )
        assert response.status == 200, await response.text()
        header, frames = read_stream(await response.read(), WireFormat.MSGPACK)
        assert (header.fps, header.total_frames, header.vae_scale_factor) == (10, 5, None)
        expected = [seq % 2 == 0 for seq in range(5)] if pipeline.startswith("delta") else [True] * 5
        assert [frame.keyframe for frame in frames] == expected
        assert [frame.done for frame in frames] == [False] * 4 + [True]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"frames": 5, "duration_seconds": 1}, "duration_seconds"),
        ({"duration_seconds": 1e300}, "duration_seconds"),
        ({"duration_seconds": -1}, "duration_seconds"),
        ({"frames": 721}, "frames"),
        ({"frames": 0}, "frames"),
        ({"pipeline": "delta+int8", "keyframe_interval": 25}, "keyframe_interval"),
        ({"resolution": 0}, "resolution"),
        ({"resolution": "12px"}, "resolution"),
    ],
)
async def test_invalid_video_field_returns_400_with_its_name(change: dict[str, Any], param: str) -> None:
    async with run_servers(FakeEngine(free_running=True), VIDEO_MODEL) as servers:
        body = {key: value for key, value in LATENTS.items() if key != "size"} | change
        response = await servers.http.post(VIDEOS, json=body)
        assert response.status == 400
        assert (await read_error(response))["param"] == param


async def test_resolution_as_one_number_is_the_side_of_a_square() -> None:
    async with run_servers(FakeEngine(free_running=True), VIDEO_MODEL) as servers:
        body = {"prompt": "x", "modality": "video-latents", "resolution": 128, "steps": 1, "frames": 1}
        response = await servers.http.post(VIDEOS, json=body)
        header, _ = read_stream(await response.read(), WireFormat.MSGPACK)
        assert header.shape == (4, 16, 16)
