"""The TypeScript client over gRPC-Web, through a real Envoy, in Node.js and in a page in Chromium."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support.browser import needs_chromium, open_page
from tests.support.envoy import addresses_of, configuration, needs_envoy, run_envoy
from tests.support.fake_engine import FakeEngine
from tests.support.processes import Addresses
from tests.support.serving import run_servers
from tests.support.web_client import CLIENT, build_client, node

pytestmark = [pytest.mark.slow, needs_envoy]

IMAGE: dict[str, Any] = {"prompt": "a sea", "size": "64x64", "steps": 2, "seed": 7}
VIDEO = IMAGE | {"modality": "video-latents", "frames": 3, "fps": 8, "keyframe_interval": 2, "negative_prompt": "noise"}
REQUESTS: list[dict[str, Any]] = [
    *(IMAGE | {"pipeline": name} for name in ("raw", "int8", "int4", "int8-adaptive", "int4-adaptive")),
    *(VIDEO | {"pipeline": name} for name in ("delta+int8", "delta+int4")),
    IMAGE | {"steps": 3, "preview_every": 1, "guidance_scale": 2.5},
]
REFUSED: list[dict[str, Any]] = [
    IMAGE | {"steps": 0},
    IMAGE | {"model": "none"},
    IMAGE | {"pipeline": "délta"},
    IMAGE | {"pin": "sha256:" + "0" * 64},
]
PAGE = """<!doctype html><title>a page</title><script type="module">
import { generateGrpcWeb } from "/client/index.js";
import { collectAll } from "/programs/collect.mjs";
const found = await collectAll(generateGrpcWeb, PROXY, REQUESTS);
await fetch("/found", {method: "POST", body: JSON.stringify(found)});
</script>"""


@pytest.fixture(scope="module")
def built_client() -> None:
    """The client, built."""
    build_client()


@pytest.fixture(scope="module")
def server(built_client: None, embedded_server: Addresses) -> Addresses:
    """A server of the embedded model."""
    return embedded_server


async def run_both(server: Addresses, proxy: str, requests: list[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    """Return the results of the requests over HTTP and over gRPC-Web, from Node.js."""
    text = await asyncio.to_thread(node, "both-protocols.mjs", server.http, proxy, json.dumps(requests))
    over_http, over_grpc_web = map(json.loads, text.splitlines())
    return over_http, over_grpc_web


async def test_grpc_web_returns_what_http_returns_in_every_pipeline(server: Addresses, tmp_path: Path) -> None:
    async with run_envoy(configuration([server]), tmp_path) as envoy:
        over_http, over_grpc_web = await run_both(server, f"http://{envoy.grpc}", REQUESTS)
    assert over_grpc_web == over_http
    assert [result.get("pipeline") for result in over_grpc_web[:-1]] == [one["pipeline"] for one in REQUESTS[:-1]]
    assert all(result["seed"] == "7" and result["map"].startswith("sha256:") for result in over_grpc_web)
    assert [len(result["values"]) for result in over_grpc_web] == [1] * 5 + [3, 3] + [1]
    assert over_grpc_web[-1]["steps"] == ["1 of 3", "2 of 3", "3 of 3"]
    assert [step for step, _ in over_grpc_web[-1]["previews"]] == [1, 2]


async def test_grpc_web_throws_the_errors_that_http_throws(server: Addresses, tmp_path: Path) -> None:
    async with run_envoy(configuration([server]), tmp_path) as envoy:
        over_http, over_grpc_web = await run_both(server, f"http://{envoy.grpc}", REFUSED)
    assert over_grpc_web == over_http
    assert [result["name"] for result in over_grpc_web] == [
        "InvalidRequest",
        "NotFound",
        "InvalidRequest",
        "MapMismatch",
    ]
    assert [result["field"] for result in over_grpc_web] == ["steps", "model", "pipeline", None]


async def test_full_queue_is_reported_with_the_time_to_wait(built_client: None, tmp_path: Path) -> None:
    engine = FakeEngine()  # its only place is taken until the end
    async with run_servers(engine, max_jobs=1) as servers:
        config = configuration([addresses_of(servers)])
        _remove_retries(config)
        async with run_envoy(config, tmp_path) as envoy:
            first = asyncio.create_task(run_both(addresses_of(servers), f"http://{envoy.grpc}", [IMAGE]))
            await engine.wait_until_started(1)
            _, (refused,) = await run_both(addresses_of(servers), f"http://{envoy.grpc}", [IMAGE])
            engine.release_steps(4)
            await first
    assert refused["name"] == "Overloaded"
    assert refused["retryAfterS"] >= 1


def _remove_retries(config: Any) -> None:
    """Remove the retries of `config`, so that refusals reach the client at once."""
    listener = config["static_resources"]["listeners"][0]
    (host,) = listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
    for route in host["routes"]:
        route.get("route", {}).pop("retry_policy", None)


@needs_chromium
async def test_page_of_an_allowed_origin_generates_over_grpc_web(server: Addresses, tmp_path: Path) -> None:
    results: asyncio.Queue[Any] = asyncio.Queue()
    requests = REQUESTS + REFUSED
    text = PAGE.replace("REQUESTS", json.dumps(requests))

    async def show(_: web.Request) -> web.Response:
        return web.Response(text=text, content_type="text/html")

    async def store(request: web.Request) -> web.Response:
        results.put_nowait(await request.json())
        return web.Response()

    app = web.Application()
    app.add_routes([web.get("/", show), web.post("/found", store)])
    app.router.add_static("/client", CLIENT / "dist")
    app.router.add_static("/programs", CLIENT / "test" / "programs")
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        page = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with run_envoy(configuration([server], page), tmp_path) as envoy, asyncio.timeout(300):
            text = text.replace("PROXY", json.dumps(f"http://{envoy.grpc}"))
            async with open_page(page, tmp_path / "profile"):
                found = await results.get()
            over_http, _ = await run_both(server, f"http://{envoy.grpc}", requests)
    finally:
        await runner.cleanup()
    assert found == over_http
