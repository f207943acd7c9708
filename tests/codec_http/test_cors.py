"""Pages of any origin may ask and read: the preflight, and the headers on every answer."""

from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import IMAGES
from tests.support.serving import run_servers

PREFLIGHT = {"Origin": "https://elsewhere", "Access-Control-Request-Method": "POST"}


async def test_a_preflight_is_answered() -> None:
    async with run_servers(FakeEngine()) as servers:
        response = await servers.http.options(IMAGES, headers=PREFLIGHT)
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
        assert "Access-Control-Allow-Credentials" not in response.headers


async def test_options_that_are_no_preflight_are_refused_as_ever() -> None:
    async with run_servers(FakeEngine()) as servers:
        response = await servers.http.options(IMAGES)
        assert (response.status, response.headers["Allow"]) == (405, "POST")


async def test_every_answer_may_be_read() -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        body = {"prompt": "a sea", "stream_format": "msgpack", "size": "64x64", "steps": 1}
        answers = [
            await servers.http.post(IMAGES, json=body),
            await servers.http.post(IMAGES, json=body | {"steps": 0}),
            await servers.http.get("/codec/info"),
            await servers.http.get("/nowhere"),
        ]
        assert [answer.status for answer in answers] == [200, 400, 200, 404]
        for answer in answers:
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert "Codec-Latent-Map" in answer.headers["Access-Control-Expose-Headers"]
