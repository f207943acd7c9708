"""Absolute URLs in /codec/info, in index.json and in new maps."""

import json

import pytest

from codec_http.server import start_http_server
from codec_maps.model_map import map_from_model
from core.admission import Admission
from core.lifecycle import Lifecycle, State
from core.served import ModelInstance
from core.service import LatentService
from tests.support.fake_engine import FakeEngine
from tests.support.serving import LATENT_SPACE, MODEL, SCALES, bundle_of, http_address, plain_session, run_servers

PATH = f"/.well-known/codec/latents/{LATENT_SPACE}.json"


async def test_urls_are_below_the_origin_of_the_request() -> None:
    async with run_servers(FakeEngine()) as servers:
        for headers, origin in (({}, http_address(servers)), ({"Host": "localhost:1"}, "http://localhost:1")):
            info = await (await servers.http.get("/codec/info", headers=headers)).json()
            assert (info["latent_map_url"], info["models"][0]["latent_map_url"]) == (origin + PATH, origin + PATH)
            index = await (await servers.http.get("/.well-known/codec/index.json", headers=headers)).json()
            assert index["latents"][0]["url"] == origin + PATH


@pytest.mark.parametrize("host", ["a/b", "a b", "user@a", "a?b", '"'])
async def test_invalid_host_header_does_not_become_part_of_a_url(host: str) -> None:
    async with run_servers(FakeEngine()) as servers:
        response = await servers.http.get("/.well-known/codec/index.json", headers={"Host": host})
        if response.status == 200:
            assert (await response.json())["latents"][0]["url"] == PATH


async def test_urls_are_below_the_public_url_if_it_is_configured() -> None:
    service = LatentService(Lifecycle(), Admission(1, 10**12))
    bundle = bundle_of(MODEL)
    service.models.replace([ModelInstance(MODEL, bundle, FakeEngine(), "test device")])
    service.lifecycle.transition_to(State.SERVING)
    server = await start_http_server(service, "127.0.0.1", 0, 60, "https://a.example/codec")
    try:
        async with plain_session(server.port) as http:
            info = await (await http.get("/codec/info")).json()
            index = await (await http.get("/.well-known/codec/index.json")).json()
            assert await (await http.get(PATH)).read() == bundle.document
    finally:
        await server.stop()
    assert info["latent_map_url"] == index["latents"][0]["url"] == f"https://a.example/codec{PATH}"


def test_new_map_has_absolute_urls_if_the_public_url_is_known() -> None:
    scales = {"int8": SCALES}
    bundle = map_from_model(MODEL, 1.0, "AutoencoderKL", scales, public_url="https://a.example")
    relative = map_from_model(MODEL, 1.0, "AutoencoderKL", scales)
    (url,) = [entry.static_scales.url for entry in bundle.latent_map.pipelines if entry.static_scales]
    assert url.startswith("https://a.example/.well-known/codec/scales/")
    assert json.loads(bundle.document) == json.loads(
        relative.document.replace(b'"/.well-known', b'"https://a.example/.well-known')
    )


async def test_request_with_20_kb_of_cookies_is_answered() -> None:
    async with run_servers(FakeEngine()) as servers:
        response = await servers.http.get("/codec/info", headers={"Cookie": f"a={'x' * 20_000}"})
        assert response.status == 200
        assert response.headers["Access-Control-Allow-Origin"] == "*"
