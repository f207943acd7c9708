"""Pages in a real browser: which of them can cause a generation and read its result."""

import asyncio
import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest
from aiohttp import hdrs, web

from codec_http.server import start_http_server
from tests.support.browser import needs_chromium, open_page
from tests.support.dictionaries import with_dictionary
from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import IMAGES, LATENTS
from tests.support.serving import LATENT_SPACE, MODEL, bundle_of, run_servers

FAILED = "TypeError: Failed to fetch"
"""What a script receives if the browser hides a response from it."""
PAGE = """<!doctype html><title>a page</title><iframe name="frame"></iframe><script>
const hex = bytes => [...new Uint8Array(bytes)].map(byte => byte.toString(16).padStart(2, "0")).join("");
const attempt = async (found, name, action) => {
  try { found[name] = await action(); } catch (error) { found[name] = String(error); }
};
const path = "/v1/images/generations", method = "POST", body = JSON.stringify(BODY);
(async () => {
  const found = {page: PAGE};
  await attempt(found, "generation", async () => {
    const headers = {"Content-Type": "application/json", "Accept": "application/x-codec-msgpack", "X-Codec-Map": MAP};
    const response = await fetch(SERVER + path, {method, headers, body});
    return [response.status, response.headers.get("Codec-Latent-Map"), hex(await response.arrayBuffer())];
  });
  await attempt(found, "error", async () => {
    const headers = {"Content-Type": "application/json"};
    const response = await fetch(SERVER + path, {method, headers, body: '{"stream_format": "msgpack"}'});
    return (await response.json()).error.param;
  });
  await attempt(found, "text", async () => (await fetch(SERVER + path, {method, body})).status);
  await attempt(found, "opaque", async () => (await fetch(SERVER + path, {method, mode: "no-cors", body})).type);
  await attempt(found, "index", async () => {
    const index = await (await fetch(SERVER + "/.well-known/codec/index.json")).json();
    return (await (await fetch(SERVER + new URL(index.latents[0].url).pathname)).json()).id;
  });
  const form = document.createElement("form");
  Object.assign(form, {method, action: SERVER + path, enctype: "text/plain", target: "frame"});
  const input = document.createElement("input");
  Object.assign(input, {name: body.slice(0, -1) + ', "user": "', value: '"}'});
  form.append(input);
  document.body.append(form);
  await attempt(found, "form", () => new Promise(done => {
    document.querySelector("iframe").onload = () => done("submitted");
    form.submit();
  }));
  await fetch("/found", {method, body: JSON.stringify(found)});
  if (NEXT) location = NEXT;
})();
</script>"""
BODY = LATENTS | {"pipeline": "int8"}
"""A request for which the map has a zstd dictionary, which browsers cannot use."""
HOSTS = {"elsewhere": "elsewhere.example", "allowed": "app.example", "same": "127.0.0.1"}
"""Hosts of the pages, in the order in which the browser opens them."""


class PageServer:
    """A web server with the pages of HOSTS. It passes other requests on to the server at `target`, with their Host."""

    def __init__(self, script: Mapping[str, object]) -> None:
        """`script` are the values of names in the script of the page."""
        self.target = ""
        self.found: dict[str, Any] = {}
        """Results of the script by page."""
        self.complete = asyncio.Event()
        self._script = script
        app = web.Application()
        app.add_routes([web.get("/{page:elsewhere|allowed|same}", self._show), web.post("/found", self._store)])
        app.add_routes([web.route("*", "/{path:.*}", self._pass_on)])
        self._runner = web.AppRunner(app)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def url(self, page: str) -> str:
        """Return the URL of `page`."""
        return f"http://{HOSTS[page]}:{self._runner.addresses[0][1]}/{page}"

    async def _show(self, request: web.Request) -> web.Response:
        page = request.match_info["page"]
        following = dict(pairwise(HOSTS)).get(page)
        values = {
            "SERVER": "" if page == "same" else self.target,
            "PAGE": page,
            "NEXT": following and self.url(following),
        }
        text = PAGE
        for name, value in {**values, **self._script}.items():
            text = text.replace(name, json.dumps(value))
        return web.Response(text=text, content_type="text/html")

    async def _store(self, request: web.Request) -> web.Response:
        found = await request.json()
        self.found[found.pop("page")] = found
        if len(self.found) == len(HOSTS):
            self.complete.set()
        return web.Response()

    async def _pass_on(self, request: web.Request) -> web.Response:
        async with (
            aiohttp.ClientSession(self.target, auto_decompress=False) as session,
            session.request(
                request.method, request.path, headers=request.headers, data=await request.read()
            ) as response,
        ):
            headers = {name: value for name, value in response.headers.items() if name != hdrs.TRANSFER_ENCODING}
            return web.Response(status=response.status, headers=headers, body=await response.read())


@pytest.mark.slow
@needs_chromium
async def test_only_pages_of_allowed_origins_and_of_the_server_itself_can_generate(tmp_path: Path) -> None:
    engine = FakeEngine(free_running=True)
    async with run_servers(engine, bundle=with_dictionary(bundle_of(MODEL))) as servers:
        plain = await (await servers.http.post(IMAGES, json=BODY)).read()
        map_hash = servers.service.models.require_default().bundle.hash
        engine.started.clear()
        async with PageServer({"BODY": BODY, "MAP": map_hash}) as pages:
            allowed = [pages.url("allowed").removesuffix("/allowed")]
            server = await start_http_server(servers.service, "127.0.0.1", 0, 60, allowed_origins=allowed)
            pages.target = f"http://127.0.0.1:{server.port}"
            try:
                async with open_page(pages.url("elsewhere"), tmp_path / "profile"), asyncio.timeout(120):
                    await pages.complete.wait()
            finally:
                await server.stop()
    refused = {"generation": FAILED, "error": FAILED, "text": FAILED, "opaque": "opaque"}
    accepted = {"generation": [200, map_hash, plain.hex()], "error": "prompt", "text": 415}
    discovery = {"index": LATENT_SPACE, "form": "submitted"}
    assert pages.found == {
        "elsewhere": refused | discovery,
        "allowed": accepted | discovery | {"opaque": "opaque"},
        "same": accepted | discovery | {"opaque": "basic"},
    }
    assert len(engine.started) == 2
