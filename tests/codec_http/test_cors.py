"""Web pages: which origins and hosts are refused, and the CORS headers of responses to others."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from codec_http.server import start_http_server
from core.lifecycle import State
from core.settings import read_settings
from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import IMAGES, JSON, LATENTS, read_error
from tests.support.serving import Servers, plain_session, run_http_gateway, run_servers

ELSEWHERE = "https://elsewhere.example"
INDEX = "/.well-known/codec/index.json"
DISCOVERY = (INDEX, "/codec/info", "/codec/schema", "/openapi.json", "/docs", "/livez", "/health")


def page_of(origin: str) -> dict[str, str]:
    return {"Origin": origin}


def preflight_of(origin: str) -> dict[str, str]:
    return {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}


@asynccontextmanager
async def http_server(
    servers: Servers, allowed_origins: Iterable[str] | None, public_url: str | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[aiohttp.ClientSession]:
    """Run another HTTP server for the service of `servers` and yield a session connected to it."""
    server = await start_http_server(servers.service, host, 0, 60, public_url, allowed_origins=allowed_origins)
    try:
        async with plain_session(server.port) as session:
            yield session
    finally:
        await server.stop()


@pytest.mark.parametrize(
    "origin",
    [
        *(
            "http://localhost:3000",
            "https://localhost",
            "http://127.0.0.1:5173",
            "http://[::1]:1",
            "http://a.localhost",
        ),
        "HTTP://LOCALHOST:3000",
    ],
)
async def test_page_of_this_host_may_generate(origin: str) -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        preflight = await servers.http.options(IMAGES, headers=preflight_of(origin))
        assert preflight.status == 204
        assert preflight.headers["Access-Control-Allow-Origin"] == origin
        assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
        assert "Access-Control-Allow-Credentials" not in preflight.headers
        response = await servers.http.post(IMAGES, json=LATENTS, headers=page_of(origin))
        assert response.status == 200
        assert response.headers["Access-Control-Allow-Origin"] == origin
        assert "Codec-Latent-Map" in response.headers["Access-Control-Expose-Headers"]
        assert response.headers["Vary"].endswith(", Origin")


@pytest.mark.parametrize(
    "origin",
    [
        *(ELSEWHERE, "null", "", "https://localhost.elsewhere.example", "http://127.0.0.1.elsewhere.example"),
        *(
            "http://localhost@elsewhere.example",
            "http://10.0.0.1",
            "*",
            "file://",
            "http://elsewhere.example:localhost",
        ),
    ],
)
async def test_page_of_another_origin_cannot_cause_a_generation(origin: str) -> None:
    engine = FakeEngine(free_running=True)
    async with run_servers(engine) as servers:
        requests = [
            servers.http.options(IMAGES, headers=preflight_of(origin)),
            servers.http.post(IMAGES, json=LATENTS, headers=page_of(origin)),
            # Browsers send this one without asking the server first.
            servers.http.post(IMAGES, data="{}", headers=page_of(origin) | {"Content-Type": "text/plain"}),
            servers.http.post("/v1/latents/decode", data=b"", headers=page_of(origin)),
            servers.http.get("/v1/models", headers=page_of(origin)),
            servers.http.get("/nowhere", headers=page_of(origin)),
        ]
        for request in requests:
            response = await request
            error = await read_error(response)
            assert (response.status, error["code"], error["type"]) == (403, "forbidden", "permission_error")
            assert "CODEC_ALLOWED_ORIGINS" in error["message"]
            assert "Access-Control-Allow-Origin" not in response.headers
            assert response.headers["Vary"] == "Origin"
        assert engine.started == []


async def test_pages_of_every_origin_may_read_discovery() -> None:
    async with run_servers(FakeEngine()) as servers:
        for path in DISCOVERY:
            for headers in ({}, page_of(ELSEWHERE)):
                response = await servers.http.get(path, headers=headers)
                assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (200, "*")
                assert "Vary" not in response.headers
        preflight = await servers.http.options(INDEX, headers=preflight_of(ELSEWHERE))
        assert (preflight.status, preflight.headers["Access-Control-Allow-Origin"]) == (204, "*")


async def test_responses_to_clients_that_are_not_browsers_vary_with_the_origin() -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        responses = [
            await servers.http.post(IMAGES, json=LATENTS),
            await servers.http.post(IMAGES, json=LATENTS | {"steps": 0}),
            await servers.http.get("/v1/models"),
            await servers.http.get("/nowhere"),
        ]
        assert [response.status for response in responses] == [200, 400, 200, 404]
        for response in responses:
            assert "Access-Control-Allow-Origin" not in response.headers
            assert response.headers["Vary"].split(", ")[-1] == "Origin"


async def test_options_request_without_preflight_headers_returns_405() -> None:
    async with run_servers(FakeEngine()) as servers:
        response = await servers.http.options(IMAGES)
        assert (response.status, response.headers["Allow"]) == (405, "POST")


async def test_configured_origins_replace_those_of_this_host() -> None:
    allowed = read_settings({"allowed_origins": "https://App.Example:443/ , tauri://app"}).allowed_origin_list
    assert allowed == ("https://app.example", "tauri://app")
    async with run_servers(FakeEngine(free_running=True)) as servers, http_server(servers, allowed) as http:
        own = f"http://localhost:{http._base_url.port if http._base_url else 0}"
        for origin, host, status in (
            ("https://app.example", "localhost", 200),
            ("tauri://app", "localhost", 200),
            (own, own.removeprefix("http://"), 200),  # its own origin
            (own, "127.0.0.1", 403),
            ("http://app.example", "localhost", 403),
            ("https://app.example:8443", "localhost", 403),
        ):
            response = await http.post(IMAGES, json=LATENTS, headers=page_of(origin) | {"Host": host})
            assert response.status == status, origin
            assert response.headers.get("Access-Control-Allow-Origin") == (origin if status == 200 else None)


async def test_wildcard_allows_every_origin_and_every_host() -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers, http_server(servers, ["*"]) as http:
        for headers in ({}, page_of(ELSEWHERE), page_of("null"), {"Host": "elsewhere.example"}):
            response = await http.post(IMAGES, json=LATENTS, headers=headers)
            assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (200, "*")
            assert "Origin" not in response.headers["Vary"]


@pytest.mark.parametrize("path", [IMAGES, *DISCOVERY])
async def test_request_for_another_host_than_this_one_is_refused(path: str) -> None:
    """A page of elsewhere.example whose name resolves to 127.0.0.1 (DNS rebinding) has the server's own origin."""
    engine = FakeEngine(free_running=True)
    async with run_servers(engine) as servers:
        method, body = ("POST", LATENTS) if path == IMAGES else ("GET", None)
        for host in ("elsewhere.example", "elsewhere.example:8080", "10.0.0.1", "localhost.example", "a b", ""):
            for headers in ({"Host": host}, {"Host": host} | page_of(f"http://{host}")):
                response = await servers.http.request(method, path, json=body, headers=headers)
                assert response.status == 403, host
                assert "CODEC_PUBLIC_URL" in (await read_error(response))["message"]
        assert engine.started == []
        for host in ("localhost", "LOCALHOST:9", "127.0.0.1", "127.0.0.1:80", "[::1]:8080", "[::1]", "a.localhost"):
            assert (await servers.http.request(method, path, json=body, headers={"Host": host})).status == 200, host


async def test_host_of_the_public_url_and_of_allowed_origins_is_accepted() -> None:
    async with (
        run_servers(FakeEngine(free_running=True)) as servers,
        http_server(servers, ["https://app.example"], "https://Latents.example/codec") as http,
    ):
        for host, status in (("latents.example", 200), ("app.example:1", 200), ("elsewhere.example", 403)):
            assert (await http.get("/livez", headers={"Host": host})).status == status
        for origin, status in (("https://latents.example", 200), ("http://latents.example", 403)):
            assert (await http.post(IMAGES, json=LATENTS, headers=page_of(origin))).status == status


async def test_server_for_other_hosts_accepts_every_host_but_no_rebound_page() -> None:
    async with (
        run_servers(FakeEngine(free_running=True)) as servers,
        http_server(servers, None, host="0.0.0.0") as http,
    ):
        for host, origin, status in (
            ("gpu.example:8080", None, 200),
            ("10.0.0.7:8080", "http://10.0.0.7:8080", 200),
            ("10.0.0.7:8080", "http://10.0.0.7", 403),
            ("elsewhere.example", "http://elsewhere.example", 403),
        ):
            headers = {"Host": host} | ({} if origin is None else page_of(origin))
            assert (await http.post(IMAGES, json=LATENTS, headers=headers)).status == status, (host, origin)


async def test_gateway_restricts_web_pages_too() -> None:
    engine = FakeEngine(free_running=True)
    async with run_servers(engine) as servers, run_http_gateway(servers.grpc_address) as (_, http):
        for headers, status in (
            ({}, 200),
            (page_of("http://localhost:3000"), 200),
            (page_of(ELSEWHERE), 403),
            ({"Host": "elsewhere.example"}, 403),
        ):
            response = await http.post(IMAGES, json=LATENTS, headers=headers)
            await response.read()
            assert response.status == status
        assert len(engine.started) == 2


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x", None]
)
async def test_body_that_is_not_declared_as_json_returns_415(content_type: str | None) -> None:
    engine = FakeEngine(free_running=True)
    async with run_servers(engine) as servers:
        response = await servers.http.post(
            IMAGES,
            data=b'{"prompt": "a sea", "stream_format": "msgpack"}',
            headers={} if content_type is None else {"Content-Type": content_type},
            skip_auto_headers=["Content-Type"],
        )
        error = await read_error(response)
        assert (response.status, error["code"]) == (415, "unsupported_media_type")
        received = "nothing" if content_type is None else repr(content_type)
        assert error["message"] == f"Content-Type must be application/json, got {received}"
        assert engine.started == []
        assert servers.service.lifecycle.state is State.SERVING


@pytest.mark.parametrize("content_type", [*JSON.values(), "Application/JSON", "application/json; charset=utf-8"])
async def test_content_type_of_json_may_have_parameters(content_type: str) -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        data = b'{"prompt": "a sea", "stream_format": "msgpack", "size": "64x64", "steps": 1}'
        response = await servers.http.post(IMAGES, data=data, headers={"Content-Type": content_type})
        assert response.status == 200
