"""The page at / and its files, without a browser."""

import re
from pathlib import Path

import pytest

from codec_http.web_page import FOLDER
from core.api_keys import ApiKeys
from tests.support.fake_engine import FakeEngine
from tests.support.serving import run_servers

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


async def test_browsers_get_the_page_with_a_policy_without_unsafe_inline() -> None:
    async with run_servers(FakeEngine()) as servers:
        response = await servers.http.get("/", headers=BROWSER)
        text = await response.text()
    assert (response.status, response.content_type) == (200, "text/html")
    assert response.headers["Vary"] == "Accept"
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy
    assert "'unsafe-eval'" not in policy
    assert not re.search(r"<style|<script>|\son\w+=|\sstyle=|https?://(?!www\.w3\.org)", text)


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "text/html;q=0"])
async def test_other_clients_get_the_response_to_an_unknown_path(accept: str | None) -> None:
    async with run_servers(FakeEngine()) as servers:
        response = await servers.http.get("/", headers={} if accept is None else {"Accept": accept})
        error = (await response.json())["error"]
    assert response.status == 404
    assert error == {"message": "GET /: Not Found", "type": "invalid_request_error", "param": None, "code": "not_found"}


async def test_page_and_its_files_need_no_api_key_and_are_revalidated() -> None:
    async with run_servers(FakeEngine(), api_keys=ApiKeys("secret-of-alice-0123", None)) as servers:
        text = await (await servers.http.get("/", headers=BROWSER)).text()
        paths = re.findall(r'(?:href|src)="(page/[^"]+)"', text)
        assert len(paths) >= 3
        for path in paths:
            response = await servers.http.get(f"/{path}")
            assert (response.status, await response.read()) == (200, (FOLDER / Path(path).name).read_bytes())
            assert response.headers["Cache-Control"] == "no-cache"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            again = await servers.http.get(f"/{path}", headers={"If-None-Match": response.headers["ETag"]})
            assert again.status == 304


@pytest.mark.parametrize(
    "name",
    ["missing.js", "index.html", "..%2f__init__.py", "%2e%2e", "..", "page.js%00", ".js", f"{'a' * 300}.js"],
)
async def test_other_files_are_not_found(name: str) -> None:
    async with run_servers(FakeEngine()) as servers:
        response = await servers.http.get(f"/page/{name}")
    assert response.status == 404


async def test_head_requests_have_the_headers_of_get_without_a_body() -> None:
    async with run_servers(FakeEngine()) as servers:
        for path in ("/", "/page/page.js", "/readyz", "/codec/info", "/v1/models"):
            got = await servers.http.get(path, headers=BROWSER)
            head = await servers.http.head(path, headers=BROWSER)
            assert (head.status, await head.read()) == (got.status, b"")
            for name in ("Content-Type", "Content-Length"):
                assert head.headers[name] == got.headers[name]
        assert (await servers.http.head("/v1/models/missing")).status == 404
        assert (await servers.http.head("/v1/images/generations")).status == 405


async def test_page_names_the_decoders_that_were_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index.html").write_text((FOLDER / "index.html").read_text())
    monkeypatch.setattr("codec_http.web_page.FOLDER", tmp_path)
    async with run_servers(FakeEngine()) as servers:
        assert 'data-decoders=""' in await (await servers.http.get("/", headers=BROWSER)).text()
        (tmp_path / "decoder-wasm.js").write_text("")
        assert 'data-decoders="wasm"' in await (await servers.http.get("/", headers=BROWSER)).text()
