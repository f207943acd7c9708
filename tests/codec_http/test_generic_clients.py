"""General-purpose HTTP clients and command-line programs read the body with their default headers."""

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
from tests.support.serving import Servers, bundle_of, run_servers

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
        command = ["curl", "-sS", "--compressed", "-D", "headers", "--json", json.dumps(BODY), address + IMAGES]
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
