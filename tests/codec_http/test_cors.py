"""CORS: preflight requests, and the headers of every response."""

from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import IMAGES
from tests.support.serving import run_servers

PREFLIGHT = {"Origin": "https://elsewhere", "Access-Control-Request-Method": "POST"}


async def test_preflight_request_returns_204() -> None:
    async with run_servers(FakeEngine()) as servers:
        response = await servers.http.options(IMAGES, headers=PREFLIGHT)
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
        assert "Access-Control-Allow-Credentials" not in response.headers


async def test_options_request_without_preflight_headers_returns_405() -> None:
    async with run_servers(FakeEngine()) as servers:
        response = await servers.http.options(IMAGES)
        assert (response.status, response.headers["Allow"]) == (405, "POST")


async def test_every_response_has_cors_headers() -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        body = {"prompt": "a sea", "stream_format": "msgpack", "size": "64x64", "steps": 1}
        responses = [
            await servers.http.post(IMAGES, json=body),
            await servers.http.post(IMAGES, json=body | {"steps": 0}),
            await servers.http.get("/codec/info"),
            await servers.http.get("/nowhere"),
        ]
        assert [response.status for response in responses] == [200, 400, 200, 404]
        for response in responses:
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            assert "Codec-Latent-Map" in response.headers["Access-Control-Expose-Headers"]
