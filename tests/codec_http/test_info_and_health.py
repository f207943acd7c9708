"""Endpoints other than generation: health, server information, models, the schema, and unknown paths."""

import pytest

from codec_wire.errors import NotReady
from core.lifecycle import State
from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import IMAGES, LATENTS, read_error
from tests.support.serving import LATENT_SPACE, MODEL, Servers, http_address, run_servers


async def test_health_follows_the_lifecycle() -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        for path in ("/health", "/codec/health"):
            response = await servers.http.get(path)
            assert response.status == 200
            body = await response.json()
            assert body == {"ok": True, "model": MODEL.name, "latent_space": LATENT_SPACE, "state": "serving"}
        servers.service.lifecycle.transition_to(State.DRAINING)
        assert (await servers.http.get("/health")).status == 503
        assert (await servers.http.get("/readyz")).status == 503
        assert (await servers.http.get("/livez")).status == 200
        rejected = await servers.http.post(IMAGES, json=LATENTS)
        assert rejected.status == 503
        assert int(rejected.headers["Retry-After"]) >= 1
        assert (await read_error(rejected))["code"] == NotReady.code


async def test_endpoints_respond_while_the_server_is_loading(servers_loading: Servers) -> None:
    http = servers_loading.http
    info = await (await http.get("/codec/info")).json()
    assert (info["state"], info["model"], info["codec_version"]) == ("loading", None, "0.3")
    assert (await http.get("/livez")).status == 200
    for path in ("/readyz", "/health", "/v1/models"):
        assert (await http.get(path)).status == 503
    assert (await http.post(IMAGES, json=LATENTS)).status == 503


@pytest.fixture
async def servers_loading():  # type: ignore[no-untyped-def]  # noqa: ANN201
    async with run_servers(FakeEngine()) as servers:
        servers.service.lifecycle.transition_to(State.LOADING)
        servers.service.models.replace([])
        yield servers


async def test_info_has_the_keys_of_the_sibling_servers_and_the_versions() -> None:
    async with run_servers(FakeEngine()) as servers:
        info = await (await servers.http.get("/codec/info")).json()
    siblings = {
        "modality_supported": ["image-latents"],
        "stream_format_supported": ["msgpack", "protobuf"],
        "compression_supported": ["br", "gzip", "identity"],
        "image_pipelines": ["raw", "int8", "int4", "int8-adaptive", "int4-adaptive"],
        "video_pipelines": [],
        "latent_space_id": LATENT_SPACE,
        "latent_map_url": f"{http_address(servers)}/.well-known/codec/latents/{LATENT_SPACE}.json",
        "model": MODEL.name,
        "codec_version": "0.3",
    }
    assert {key: info[key] for key in siblings} == siblings
    assert info["latent_map_sha256"].startswith("sha256:")
    assert set(info["versions"]) == {"torch", "diffusers", "transformers"}


async def test_models_are_listed_in_the_format_of_openai() -> None:
    async with run_servers(FakeEngine()) as servers:
        listed = await (await servers.http.get("/v1/models")).json()
        assert (listed["object"], [model["id"] for model in listed["data"]]) == ("list", ["tiny-sd"])
        assert (await servers.http.get("/v1/models/little")).status == 200
        missing = await servers.http.get("/v1/models/sd9")
        assert missing.status == 404
        assert (await read_error(missing))["param"] == "model"


async def test_schema_is_the_proto_source() -> None:
    async with run_servers(FakeEngine()) as servers:
        response = await servers.http.get("/codec/schema")
        assert response.headers["Content-Type"].startswith("text/plain")
        assert "optional bytes scales = 5;" in await response.text()


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("GET", IMAGES, 405)])
async def test_unknown_path_or_method_returns_an_error_body(method: str, path: str, status: int) -> None:
    async with run_servers(FakeEngine()) as servers:
        response = await servers.http.request(method, path)
        assert response.status == status
        assert path in (await read_error(response))["message"]
