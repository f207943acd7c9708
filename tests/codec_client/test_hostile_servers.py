"""Servers that want the client to read local files, to contact other hosts, or to run out of memory."""

import asyncio
import gzip
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from codec_client import HttpClient, PixelDecoder, UnexpectedAnswer, fetch_map, fetch_maps
from codec_client.cache import FileCache
from codec_client.maps import MAX_FILES
from codec_pixels.vae_location import locate_vae
from codec_wire.errors import InvalidMap, ModelLoadError, StreamError
from codec_wire.maps.bundle import sha256
from codec_wire.maps.document import MAX_DOCUMENT_BYTES, LatentMap, parse_map
from tests.support.commands import invoke
from tests.support.serving import LATENT_SPACE, MODEL, bundle_of
from tests.support.static_files import published_files, serve_files
from tests.support.tiny_sd import build_bundle, save_model_and_map

INDEX = "/.well-known/codec/index.json"
NOT_HASHES = [
    "/dev/zero",
    "../../../../etc/passwd",
    "sha256:/dev/zero",
    "sha256:" + "A" * 64,
    "0" * 64,
    "sha256:\u0660",
]


@asynccontextmanager
async def hostile_server(
    bodies: Mapping[str, bytes] | None = None, headers: Mapping[str, str] | None = None, status: int = 200
) -> AsyncIterator[tuple[str, list[str]]]:
    """Run a server that answers every request with `headers` and the body for its path; yield its URL and the paths."""
    paths: list[str] = []

    async def respond(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.Response(body=(bodies or {}).get(request.path, b""), headers=headers, status=status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", respond)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", paths
    finally:
        await runner.cleanup()


def index_of(*entries: dict[str, str]) -> bytes:
    return json.dumps({"latents": entries}).encode()


def map_with_files(count: int) -> bytes:
    """Return a map document that refers to `count` dictionaries."""
    document = json.loads(bundle_of(MODEL).document)
    document["zstd_dictionaries"] = [
        {"format": "msgpack", "pipeline": "int8", "url": f"/{number}", "hash": sha256(b"%d" % number)}
        for number in range(count)
    ]
    return json.dumps(document).encode()


@pytest.mark.parametrize("digest", NOT_HASHES[:-1])
async def test_dictionary_header_that_is_not_a_hash_is_neither_opened_nor_requested(
    digest: str, tmp_path: Path
) -> None:
    headers = {"Content-Type": "application/x-msgpack", "Content-Encoding": "zstd", "Codec-Zstd-Dict": digest}
    async with asyncio.timeout(10), hostile_server(headers=headers) as (server, paths):
        async with HttpClient(server, cache_dir=tmp_path, retries=0) as client:
            with pytest.raises(StreamError, match="Codec-Zstd-Dict must be sha256:<64 hex>, got "):
                await client.generate("a sea")
        assert paths == ["/v1/images/generations"]


async def test_map_header_that_is_not_a_hash_raises_unexpected_answer(tmp_path: Path) -> None:
    headers = {"Content-Type": "application/x-msgpack", "Codec-Latent-Map": "/dev/zero"}
    async with (
        hostile_server(headers=headers) as (server, _),
        HttpClient(server, cache_dir=tmp_path, retries=0) as client,
    ):
        with pytest.raises(UnexpectedAnswer, match="Codec-Latent-Map must be sha256:<64 hex>, got '/dev/zero'"):
            await client.generate("a sea")


@pytest.mark.parametrize("digest", NOT_HASHES)
async def test_index_with_a_hash_of_another_form_is_refused(digest: str, tmp_path: Path) -> None:
    index = index_of({"id": LATENT_SPACE, "url": "/map.json", "hash": digest})
    async with asyncio.timeout(10), hostile_server({INDEX: index}) as (server, paths):
        for call in (fetch_map(server, cache=FileCache(tmp_path)), fetch_maps(server, cache=FileCache(tmp_path))):
            with pytest.raises(InvalidMap, match="hash must be sha256:<64 hex>, got "):
                await call
        assert set(paths) == {INDEX}


def test_cache_opens_no_file_for_a_string_that_is_not_a_hash(tmp_path: Path) -> None:
    cache = FileCache(tmp_path)
    cache.put(b"data")
    os.mkfifo(tmp_path / "sha256" / "fifo")
    for name in (*NOT_HASHES, "fifo", str(tmp_path / "sha256" / "fifo"), "a\0b"):
        assert cache.get(name) is None
    assert cache.get(sha256(b"data")) == b"data"


async def test_redirects_to_other_hosts_are_not_followed(tmp_path: Path) -> None:
    async with hostile_server() as (elsewhere, requested):
        async with hostile_server(headers={"Location": f"{elsewhere}{INDEX}"}, status=302) as (server, _):
            with pytest.raises(InvalidMap, match="HTTP status 302"):
                await fetch_map(server)
            with pytest.raises(UnexpectedAnswer, match="302"):
                async with HttpClient(server, cache_dir=tmp_path, retries=0) as client:
                    await client.models()
        assert requested == []


async def test_files_under_the_public_url_of_a_proxied_server_are_requested_from_the_server_itself() -> None:
    bundle = bundle_of(MODEL)
    files = published_files()
    path = f"/.well-known/codec/latents/{LATENT_SPACE}.json"
    url = f"https://public.example/prefix{path}"
    files |= {INDEX: index_of({"id": LATENT_SPACE, "url": url, "hash": bundle.hash}), path: bundle.document}
    runner, server = await serve_files(files)
    try:
        assert await fetch_map(server) == bundle
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "http://169.254.169.254/latest", "//evil.example/a", "http://[x"]
)
async def test_other_urls_are_refused(url: str) -> None:
    index = index_of({"id": LATENT_SPACE, "url": url, "hash": bundle_of(MODEL).hash})
    async with hostile_server({INDEX: index}) as (server, _):
        with pytest.raises(InvalidMap):
            await fetch_map(server)


async def test_large_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = bundle_of(MODEL)
    index = index_of({"id": LATENT_SPACE, "url": "/map.json", "hash": bundle.hash})
    too_large = b" " * (MAX_DOCUMENT_BYTES + 1)
    cases: list[tuple[dict[str, bytes], str]] = [
        ({INDEX: too_large}, "index.json is larger than 1048576 bytes"),
        ({INDEX: index, "/map.json": too_large}, "map.json is larger than 1048576 bytes"),
        (
            {INDEX: index, "/map.json": map_with_files(MAX_FILES)},
            f"refers to {MAX_FILES + 2} files, but the maximum is 64",
        ),
        ({INDEX: index_of(*[json.loads(index)["latents"][0]] * 65)}, "lists 65 maps, but the maximum is 64"),
    ]
    for bodies, message in cases:
        async with hostile_server(bodies) as (server, _):
            with pytest.raises(InvalidMap, match=message):
                await fetch_map(server)
    monkeypatch.setattr("codec_client.maps.MAX_BUNDLE_BYTES", 20)
    files = {INDEX: index, "/map.json": map_with_files(3), "/0": b"0" * 5, "/1": b"1" * 6}
    files |= {path: data for path, data in published_files().items() if "scales" in path}  # 8 bytes
    async with hostile_server(files) as (server, paths):
        with pytest.raises(InvalidMap, match="/2 is larger than 1 bytes"):
            files["/2"] = b"22"
            await fetch_map(server)
        assert paths[-1] == "/2"


async def test_compressed_response_is_not_expanded() -> None:
    bomb = gzip.compress(b" " * (8 << 20))
    async with hostile_server({INDEX: bomb}, {"Content-Encoding": "gzip"}) as (server, _):
        with pytest.raises(InvalidMap, match="is not an index of latent-space maps: b'.x1f.x8b"):
            await fetch_map(server)


def test_map_document_over_the_limit_is_not_parsed() -> None:
    with pytest.raises(InvalidMap, match="the latent-space map has 1048577 bytes, but the maximum is 1048576"):
        parse_map(b"[" + b"{}," * (MAX_DOCUMENT_BYTES // 3) + b"]")


def map_naming(weights_url: str) -> LatentMap:
    document: dict[str, Any] = json.loads(build_bundle("test/unknown-vae").document)
    document["decoder"]["weights_url"] = weights_url
    return parse_map(json.dumps(document).encode())


@pytest.fixture
def hub_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Record the calls of snapshot_download, (repository, whether it may download); no repository is cached."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    calls: list[tuple[str, bool]] = []

    def snapshot_download(repository: str, *, local_files_only: bool = False, **_options: Any) -> str:
        calls.append((repository, not local_files_only))
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return calls


@pytest.mark.parametrize("form", ["{}", "file://{}", "../{}", "models/../../{}", "."])
def test_map_cannot_name_a_local_directory(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub_calls: list[tuple[str, bool]]
) -> None:
    save_model_and_map(tmp_path, "other/vae")
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path / "tiny-sd" / "vae")
    for folder in (tmp_path / "tiny-sd", Path("tiny-sd")):
        with pytest.raises(ModelLoadError, match="is neither a local model nor a Hugging Face repository"):
            locate_vae(map_naming(form.format(folder)), tmp_path / "models")
    assert hub_calls == []


def test_repository_named_by_a_map_is_downloaded_only_on_request(hub_calls: list[tuple[str, bool]]) -> None:
    evil = map_naming("evil/repository")
    with pytest.raises(ModelLoadError, match="names the VAE evil/repository on Hugging Face.*--download-decoder"):
        PixelDecoder(evil, device="cpu")
    assert hub_calls == [("evil/repository", False)]
    with pytest.raises(ModelLoadError, match="cannot be downloaded"):
        PixelDecoder(evil, device="cpu", download=True)
    assert hub_calls[1:] == [("evil/repository", False), ("evil/repository", True)]


def test_weights_that_are_not_safetensors_are_not_loaded(tmp_path: Path) -> None:
    import torch
    from diffusers import AutoencoderKL

    save_model_and_map(tmp_path, "other/vae")
    folder = tmp_path / "tiny-sd" / "vae"
    vae = AutoencoderKL.from_pretrained(folder)
    next(folder.glob("*.safetensors")).unlink()
    torch.save(vae.state_dict(), folder / "diffusion_pytorch_model.bin")
    with pytest.raises(ModelLoadError, match=r"diffusion_pytorch_model\.safetensors"):
        PixelDecoder(None, path=folder, device="cpu")


def test_control_characters_of_a_server_are_not_printed(tmp_path: Path) -> None:
    status, output = invoke("decode", tmp_path / "\x1b[31mred", "-o", tmp_path / "a.png")
    assert status == 2
    assert "\x1b" not in output
    assert "\N{REPLACEMENT CHARACTER}[31mred" in output
