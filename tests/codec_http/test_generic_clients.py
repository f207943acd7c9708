"""General-purpose HTTP clients, command-line programs and a browser read the body with their default headers."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import httpx
import pytest
import requests
from aiohttp import web

from codec_maps.bodies import encode_body
from codec_maps.corpus import Sample, generate_latents
from codec_maps.dictionaries import train_dictionary
from codec_wire import WireFormat
from codec_wire.maps import LatentMapBundle
from codec_wire.request import GenerationRequest
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from core.served import ModelInstance
from tests.support.dictionaries import with_dictionary
from tests.support.http_requests import IMAGES
from tests.support.serving import Servers, bundle_of, read_stream, run_servers

BODY = {
    "prompt": "a wide-angle photograph of a snowy mountain at dusk",
    "stream_format": "msgpack",
    "modality": "image-latents",
    "pipeline": "int8-adaptive",
    "size": "256x256",
    "steps": 2,
    "seed": 42,
}
BODY_BYTES = 4264


def requires(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"the program {program} is not installed")


async def trained_bundle(engine: DiffusersEngine, tiny_model: LoadedModel) -> LatentMapBundle:
    """Return the tiny model's map with a dictionary trained on its streams."""
    bundle = bundle_of(tiny_model.info)
    served = ModelInstance(tiny_model.info, bundle, engine, "test device")
    bodies = []
    for seed in range(8):
        request = GenerationRequest(prompt="a sea", seed=seed, steps=2, size=(128, 128))
        sample = Sample(request, await generate_latents(served, request), held_out=False)
        bodies.append(encode_body(sample, "int8-adaptive", WireFormat.MSGPACK, bundle, tiny_model.info))
    dictionary = train_dictionary(bodies, WireFormat.MSGPACK)
    assert dictionary is not None
    return with_dictionary(bundle, "int8-adaptive", dictionary)


@asynccontextmanager
async def serving(engine: DiffusersEngine, tiny_model: LoadedModel) -> AsyncIterator[tuple[Servers, str, bytes]]:
    """Yield servers of the tiny model with a dictionary, the URL of the HTTP server, and the uncompressed body."""
    async with run_servers(engine, tiny_model.info, bundle=await trained_bundle(engine, tiny_model)) as servers:
        plain = await (await servers.http.post(IMAGES, json=BODY)).read()
        assert len(plain) == BODY_BYTES
        yield servers, str(servers.http._base_url).rstrip("/"), plain


@pytest.mark.slow
async def test_python_libraries_read_the_body_with_default_headers(
    engine: DiffusersEngine, tiny_model: LoadedModel
) -> None:
    async with serving(engine, tiny_model) as (_, address, plain):
        url = address + IMAGES
        from_requests = await asyncio.to_thread(requests.post, url, json=BODY)
        assert from_requests.headers["Content-Encoding"] in ("br", "gzip")
        assert from_requests.content == plain
        async with httpx.AsyncClient() as http:
            from_httpx = await http.post(url, json=BODY)
            assert from_httpx.headers["Content-Encoding"] in ("br", "gzip")
            assert from_httpx.content == plain
        async with aiohttp.ClientSession() as session, session.post(url, json=BODY) as response:
            assert response.headers["Content-Encoding"] in ("br", "gzip")
            assert await response.read() == plain


async def run(*command: str, cwd: Path) -> bytes:
    """Run a program and return its standard output."""
    done = await asyncio.to_thread(subprocess.run, command, cwd=cwd, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@requires("curl")
async def test_curl_compressed_reads_the_body(engine: DiffusersEngine, tiny_model: LoadedModel, tmp_path: Path) -> None:
    async with serving(engine, tiny_model) as (_, address, plain):
        command = ["curl", "-sS", "--compressed", "-D", "headers", "-d", json.dumps(BODY), address + IMAGES]
        assert await run(*command, cwd=tmp_path) == plain
        assert "content-encoding: " in (tmp_path / "headers").read_text().lower()


@pytest.mark.slow
@requires("curl")
@requires("zstd")
async def test_documented_curl_and_zstd_commands_produce_the_uncompressed_body(
    engine: DiffusersEngine, tiny_model: LoadedModel, tmp_path: Path
) -> None:
    async with serving(engine, tiny_model) as (servers, address, plain):
        arguments = ["-H", "Content-Type: application/json", "-H", "Accept: application/x-codec-msgpack"]
        arguments += ["-H", "Accept-Encoding: zstd", "-d", json.dumps(BODY), address + IMAGES]
        await run("curl", "-sS", "-D", "headers", "-o", "body.zst", *arguments, cwd=tmp_path)
        lines = (tmp_path / "headers").read_text().splitlines()
        headers = dict(line.split(": ", 1) for line in lines if ": " in line)
        assert headers["Content-Encoding"] == "zstd"
        assert headers["Content-Type"] == "application/x-msgpack"
        assert headers["Codec-Latent-Map"] == servers.service.models.require_default().bundle.hash
        digest = headers["Codec-Zstd-Dict"].removeprefix("sha256:")
        url = f"{address}/.well-known/codec/dicts/{digest}.zstd"
        await run("curl", "-sS", "--fail", "-o", "dictionary", url, cwd=tmp_path)
        assert (await run("sha256sum", "dictionary", cwd=tmp_path)).split()[0].decode() == digest
        assert await run("zstd", "-d", "-c", "-D", "dictionary", "body.zst", cwd=tmp_path) == plain
        assert (tmp_path / "body.zst").stat().st_size < len(plain)
        without_dictionary = subprocess.run(
            ["zstd", "-d", "-c", "body.zst"], cwd=tmp_path, capture_output=True, check=False
        )
        assert without_dictionary.returncode != 0


PAGE = """<!doctype html><title>a page of another origin</title><script>
const hex = bytes => [...new Uint8Array(bytes)].map(byte => byte.toString(16).padStart(2, "0")).join("");
const hash = async bytes => "sha256:" + hex(await crypto.subtle.digest("SHA-256", bytes));
(async () => {
  const found = {};
  try {
    const response = await fetch(SERVER + "/v1/images/generations", {
      method: "POST",
      headers: {"Content-Type": "application/json", "Accept": "application/x-codec-msgpack", "X-Codec-Map": MAP},
      body: JSON.stringify(BODY),
    });
    found.status = response.status;
    found.map = response.headers.get("Codec-Latent-Map");
    found.body = hex(await response.arrayBuffer());
    const index = await (await fetch(SERVER + "/.well-known/codec/index.json")).json();
    found.document = await hash(await (await fetch(new URL(index.latents[0].url, SERVER))).arrayBuffer());
    const empty = JSON.stringify({stream_format: "msgpack"});
    const wrong = await fetch(SERVER + "/v1/images/generations", {method: "POST", body: empty});
    found.error = (await wrong.json()).error.param;
  } catch (error) {
    found.failure = String(error);
  }
  await fetch("/found", {method: "POST", body: JSON.stringify(found)});
})();
</script>"""


@pytest.mark.slow
@requires("chromium")
async def test_page_of_another_origin_reads_the_body_in_chromium(
    engine: DiffusersEngine, tiny_model: LoadedModel, tmp_path: Path
) -> None:
    async with serving(engine, tiny_model) as (servers, address, plain):
        bundle = servers.service.models.require_default().bundle
        page = PAGE.replace("SERVER", json.dumps(address)).replace("MAP", json.dumps(bundle.hash))
        page = page.replace("BODY", json.dumps(BODY))
        found: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()

        async def show(_request: web.Request) -> web.Response:
            return web.Response(text=page, content_type="text/html")

        async def take(request: web.Request) -> web.Response:
            found.set_result(await request.json())
            return web.Response()

        app = web.Application()
        app.add_routes([web.get("/", show), web.post("/found", take)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        browser = await asyncio.create_subprocess_exec(
            "chromium",
            *options,
            f"--user-data-dir={tmp_path / 'profile'}",
            f"http://127.0.0.1:{runner.addresses[0][1]}/",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(120):
                result = await found
        finally:
            browser.terminate()
            await browser.wait()
            await runner.cleanup()
        assert "failure" not in result, result
        assert (result["status"], result["map"]) == (200, bundle.hash)
        assert bytes.fromhex(str(result["body"])) == plain
        assert read_stream(plain, WireFormat.MSGPACK)[1][0].done
        assert (result["document"], result["error"]) == (bundle.hash, "prompt")
