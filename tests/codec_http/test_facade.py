"""The HTTP facade over real sockets: what it answers, to whom, and under which name."""

import asyncio
import io
from typing import Any

import aiohttp
import pytest

from codec_http.server import MAX_BODY_BYTES
from codec_wire import WireFormat
from core.errors import NotReady
from core.lifecycle import State
from tests.support.fake_engine import FakeEngine
from tests.support.serving import LATENT_SPACE, MODEL, VIDEO_MODEL, Servers, read_stream, servers_over

IMAGES = "/v1/images/generations"
BODY = {"prompt": "a snowy mountain", "stream_format": "msgpack", "size": "64x64", "steps": 2}


async def error_of(response: aiohttp.ClientResponse) -> dict[str, Any]:
    body = await response.json()
    assert set(body) == {"error"}
    assert {"message", "type", "param", "code"} <= set(body["error"])
    error: dict[str, Any] = body["error"]
    return error


async def test_the_seeds_request_is_answered_as_the_seed_says() -> None:
    async with servers_over(FakeEngine(free_running=True)) as servers:
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
        assert response.headers["Content-Type"] == "application/x-codec-msgpack"
        assert response.headers["Codec-Latent-Map"] == servers.service.require_served().bundle.hash
        assert response.headers["Vary"] == "Accept, Accept-Encoding"
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
        ("msgpack", "application/codec+msgpack", "application/codec+msgpack"),
        ("msgpack", "application/vnd.msgpack", "application/vnd.msgpack"),
        ("protobuf", "application/x-msgpack", "application/x-protobuf"),
        ("protobuf", "application/x-msgpack, application/x-codec-protobuf;q=0.1", "application/x-codec-protobuf"),
        (None, "application/x-protobuf", "application/x-protobuf"),
        (None, "application/x-protobuf;q=0.2, application/x-msgpack;q=0.5", "application/x-msgpack"),
        (None, "application/x-protobuf;q=0, */*", "application/x-msgpack"),
        (None, "text/html, */*;q=0.8", "application/x-msgpack"),
        (None, "APPLICATION/X-CODEC-MSGPACK", "application/x-codec-msgpack"),
    ],
)
async def test_the_format_and_its_name_are_negotiated(
    stream_format: str | None, accept: str | None, content_type: str
) -> None:
    async with servers_over(FakeEngine(free_running=True)) as servers:
        body = BODY | {"modality": "image-latents", "stream_format": stream_format}
        response = await servers.http.post(IMAGES, json=body, headers={"Accept": accept} if accept else {})
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"] == content_type
        wire_format = WireFormat.PROTOBUF if "protobuf" in content_type else WireFormat.MSGPACK
        read_stream(await response.read(), wire_format)


@pytest.mark.parametrize(
    ("change", "status", "param", "says"),
    [
        ({"stream_format": "json"}, 400, "stream_format", "'msgpack' or 'protobuf', got 'json'"),
        ({"prompt": ""}, 400, "prompt", "at least 1 character"),
        ({"prompt": None}, 400, "prompt", "is required"),
        ({"prompt": 5}, 400, "prompt", "got 5"),
        ({"prompt": "x" * 9000}, 400, "prompt", "at most 8192 characters, got 9000"),
        ({"model": "sd9"}, 404, "model", "standin, little, got 'sd9'"),
        ({"latent_space": "a/b"}, 404, "latent_space", f"{LATENT_SPACE}, got 'a/b'"),
        ({"pipeline": "int2"}, 400, "pipeline", "raw, int8, int4, int8-adaptive, int4-adaptive"),
        ({"pipeline": "delta+int8"}, 400, "pipeline", "is for video alone"),
        ({"size": "64"}, 400, "size", '"WIDTHxHEIGHT"'),
        ({"size": "65x64"}, 400, "size", "multiples of 8 from 8 to 2048, got 65x64"),
        ({"size": "0x64"}, 400, "size", "got 0"),
        ({"size": "99999x64"}, 400, "size", "2048"),
        ({"size": [64, 64]}, 400, "size", "got [64, 64]"),
        ({"resolution": "64x64"}, 400, "resolution", "got both"),
        ({"steps": 0}, 400, "steps", "greater than or equal to 1, got 0"),
        ({"steps": 10**9}, 400, "steps", "at most 250"),
        ({"steps": "5"}, 400, "steps", "got '5'"),
        ({"steps": True}, 400, "steps", "got True"),
        ({"seed": -1}, 400, "seed", "got -1"),
        ({"seed": 2**64}, 400, "seed", "less than"),
        ({"guidance_scale": "high"}, 400, "guidance_scale", "got 'high'"),
        ({"guidance_scale": -1}, 400, "guidance_scale", "got -1"),
        ({"fps": 24}, 400, "fps", "video-latents alone"),
        ({"modality": "video-latents"}, 400, "modality", "/v1/videos/generations"),
        ({"modality": "sound"}, 400, "modality", "got 'sound'"),
        ({"n": 2}, 400, "n", "must be 1"),
        ({"stepss": 5}, 400, "stepss", "did you mean 'steps'?"),
        ({"<script>": 5}, 400, "<script>", "allowed are"),
    ],
)
async def test_bad_input_names_the_field_what_came_and_what_is_allowed(
    change: dict[str, Any], status: int, param: str, says: str
) -> None:
    async with servers_over(FakeEngine(free_running=True)) as servers:
        response = await servers.http.post(IMAGES, json=BODY | change)
        error = await error_of(response)
        assert (response.status, error["param"], error["type"]) == (status, param, "invalid_request_error")
        assert says in error["message"]
        assert (await servers.http.post(IMAGES, json=BODY)).status == 200


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b'{"prompt": NaN}', b"[" * 100_000, b'{"a":' * 5000]
)
async def test_a_body_that_is_no_json_object_is_400(body: bytes) -> None:
    async with servers_over(FakeEngine(free_running=True)) as servers:
        response = await servers.http.post(IMAGES, data=body)
        error = await error_of(response)
        assert (response.status, error["param"]) == (400, "body")
        assert len(error["message"]) < 500


async def test_a_body_that_is_not_coded_as_it_says_is_400() -> None:
    async with servers_over(FakeEngine(free_running=True)) as servers:
        response = await servers.http.post(IMAGES, data=b"hello", headers={"Content-Encoding": "gzip"})
        assert response.status == 400
        assert (await error_of(response))["param"] == "body"


async def test_a_body_over_the_limit_is_413() -> None:
    async with servers_over(FakeEngine(free_running=True)) as servers:
        response = await servers.http.post(IMAGES, data=io.BytesIO(b" " * (MAX_BODY_BYTES + 1)))
        assert response.status == 413
        assert (await error_of(response))["code"] == "too_large"


@pytest.mark.parametrize("more", [{}, {"n": 1, "response_format": "b64_json", "quality": "auto"}])
async def test_a_plain_request_is_415_with_what_is_supported(more: dict[str, Any]) -> None:
    async with servers_over(FakeEngine(free_running=True)) as servers:
        response = await servers.http.post(IMAGES, json={"prompt": "a sea"} | more)
        assert response.status == 415
        assert (await error_of(response))["supported_modalities"] == ["image-latents"]


async def test_video_from_an_image_model_is_415_with_what_is_supported() -> None:
    async with servers_over(FakeEngine(free_running=True)) as servers:
        response = await servers.http.post("/v1/videos/generations", json=BODY)
        assert response.status == 415
        assert (await error_of(response))["supported_modalities"] == ["image-latents"]


@pytest.mark.parametrize("pipeline", ["raw", "delta+int8", "delta+int4", "int8-adaptive"])
async def test_a_video_model_streams_frames(pipeline: str) -> None:
    async with servers_over(FakeEngine(free_running=True), VIDEO_MODEL) as servers:
        response = await servers.http.post(
            "/v1/videos/generations",
            json=BODY
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
        ({"resolution": "12"}, "resolution"),
    ],
)
async def test_bad_video_fields_are_named(change: dict[str, Any], param: str) -> None:
    async with servers_over(FakeEngine(free_running=True), VIDEO_MODEL) as servers:
        body = {key: value for key, value in BODY.items() if key != "size"} | change
        response = await servers.http.post("/v1/videos/generations", json=body)
        assert response.status == 400
        assert (await error_of(response))["param"] == param


async def test_a_resolution_of_one_number_is_a_square() -> None:
    async with servers_over(FakeEngine(free_running=True), VIDEO_MODEL) as servers:
        body = {"prompt": "x", "modality": "video-latents", "resolution": 128, "steps": 1, "frames": 1}
        response = await servers.http.post("/v1/videos/generations", json=body)
        header, _ = read_stream(await response.read(), WireFormat.MSGPACK)
        assert header.shape == (4, 16, 16)


async def test_the_header_is_sent_when_generation_starts() -> None:
    engine = FakeEngine()
    async with servers_over(engine) as servers:
        response = await servers.http.post(IMAGES, json=BODY)
        first = await response.content.readany()
        assert b"latent_space_id" in first
        assert engine.finished == 0
        engine.let_steps_go(2)
        assert await response.content.read()


async def test_an_error_after_the_header_is_a_last_frame_that_says_so() -> None:
    engine = FakeEngine(free_running=True)
    engine.fail_with = RuntimeError("secret detail")
    async with servers_over(engine) as servers:
        response = await servers.http.post(IMAGES, json=BODY)
        body = await response.read()
        assert response.status == 200
        _, frames = read_stream(body, WireFormat.MSGPACK)
        assert (frames[0].data, frames[0].done, frames[0].finish_reason) == (b"", True, "error")
        assert b"secret" not in body
        engine.fail_with = None
        assert (await servers.http.post(IMAGES, json=BODY)).status == 200


async def test_overload_is_429_at_once_and_passes() -> None:
    engine = FakeEngine()
    async with servers_over(engine, max_jobs=2) as servers:
        running = [await servers.http.post(IMAGES, json=BODY) for _ in range(2)]
        refused = await servers.http.post(IMAGES, json=BODY)
        assert refused.status == 429
        assert int(refused.headers["Retry-After"]) >= 1
        assert (await error_of(refused))["type"] == "rate_limit_error"
        engine.let_steps_go(6)
        for response in running:
            assert await response.read()
        again = await servers.http.post(IMAGES, json=BODY)
        assert again.status == 200
        assert await again.read()


async def test_a_job_over_the_whole_house_is_413() -> None:
    async with servers_over(FakeEngine(), max_cost=64 * 64) as servers:
        response = await servers.http.post(IMAGES, json=BODY)
        assert response.status == 413
        assert "fewer steps" in (await error_of(response))["message"]


async def test_time_that_is_up_before_the_start_is_504() -> None:
    class Stuck(FakeEngine):
        async def generate(self, plan: Any, job: Any) -> Any:
            await asyncio.Event().wait()
            yield

    async with servers_over(Stuck(), request_timeout_s=0.05) as servers:
        response = await servers.http.post(IMAGES, json=BODY)
        assert response.status == 504
        assert (await error_of(response))["code"] == "deadline_exceeded"
        assert servers.service.admission.jobs == 0


async def test_a_client_that_leaves_frees_its_job_at_once() -> None:
    engine = FakeEngine()
    async with servers_over(engine) as servers:
        response = await servers.http.post(IMAGES, json=BODY | {"steps": 30})
        await engine.until_started(1)
        response.close()
        await engine.until_closed(1)
        assert engine.finished == 0
        assert servers.service.admission.jobs == 0


async def test_health_follows_the_lifecycle() -> None:
    async with servers_over(FakeEngine(free_running=True)) as servers:
        for path in ("/health", "/codec/health"):
            answer = await servers.http.get(path)
            assert answer.status == 200
            body = await answer.json()
            assert body == {"ok": True, "model": MODEL.name, "latent_space": LATENT_SPACE, "state": "serving"}
        servers.service.lifecycle.to(State.DRAINING)
        assert (await servers.http.get("/health")).status == 503
        assert (await servers.http.get("/readyz")).status == 503
        assert (await servers.http.get("/livez")).status == 200
        refused = await servers.http.post(IMAGES, json=BODY)
        assert refused.status == 503
        assert int(refused.headers["Retry-After"]) >= 1
        assert (await error_of(refused))["code"] == NotReady.code


async def test_while_loading_everything_answers(servers_loading: Servers) -> None:
    http = servers_loading.http
    info = await (await http.get("/codec/info")).json()
    assert (info["state"], info["model"], info["codec_version"]) == ("loading", None, "0.3")
    assert (await http.get("/livez")).status == 200
    for path in ("/readyz", "/health", "/v1/models"):
        assert (await http.get(path)).status == 503
    assert (await http.post(IMAGES, json=BODY)).status == 503


@pytest.fixture
async def servers_loading():  # type: ignore[no-untyped-def]  # noqa: ANN201
    async with servers_over(FakeEngine()) as servers:
        servers.service.lifecycle.to(State.LOADING)
        servers.service.served = None
        yield servers


async def test_info_has_the_siblings_keys_and_the_pins() -> None:
    async with servers_over(FakeEngine()) as servers:
        info = await (await servers.http.get("/codec/info")).json()
    siblings = {
        "modality_supported": ["image-latents"],
        "stream_format_supported": ["msgpack", "protobuf"],
        "compression_supported": ["br", "gzip", "identity"],
        "image_pipelines": ["raw", "int8", "int4", "int8-adaptive", "int4-adaptive"],
        "video_pipelines": [],
        "latent_space_id": LATENT_SPACE,
        "latent_map_url": f"/.well-known/codec/latents/{LATENT_SPACE}.json",
        "model": MODEL.name,
        "codec_version": "0.3",
    }
    assert {key: info[key] for key in siblings} == siblings
    assert info["latent_map_sha256"].startswith("sha256:")
    assert set(info["versions"]) == {"torch", "diffusers", "transformers"}


async def test_models_are_listed_as_openais_clients_read_them() -> None:
    async with servers_over(FakeEngine()) as servers:
        listed = await (await servers.http.get("/v1/models")).json()
        assert (listed["object"], [model["id"] for model in listed["data"]]) == ("list", ["standin"])
        assert (await servers.http.get("/v1/models/little")).status == 200
        missing = await servers.http.get("/v1/models/sd9")
        assert missing.status == 404
        assert (await error_of(missing))["param"] == "model"


async def test_the_schema_is_the_committed_one() -> None:
    async with servers_over(FakeEngine()) as servers:
        response = await servers.http.get("/codec/schema")
        assert response.headers["Content-Type"].startswith("text/plain")
        assert "optional bytes scales = 5;" in await response.text()


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("GET", IMAGES, 405)])
async def test_paths_that_are_none_are_answered_in_the_same_shape(method: str, path: str, status: int) -> None:
    async with servers_over(FakeEngine()) as servers:
        response = await servers.http.request(method, path)
        assert response.status == status
        assert path in (await error_of(response))["message"]
