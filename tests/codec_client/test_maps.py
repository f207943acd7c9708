"""Download of maps: files with a wrong hash, missing files and invalid indexes are rejected."""

from typing import Any

import pytest

from codec_client import ServerUnreachable, fetch_map
from codec_wire.errors import InvalidMap
from tests.support.dictionaries import bundle_with_dictionary
from tests.support.fake_engine import FakeEngine
from tests.support.serving import LATENT_SPACE, MODEL, bundle_of, run_servers
from tests.support.static_files import published_files, serve_files


async def test_fetch_map_returns_the_bundle_that_the_server_serves() -> None:
    bundle = bundle_of(MODEL)
    async with run_servers(FakeEngine(), bundle=bundle) as servers:
        address = str(servers.http._base_url)
        assert await fetch_map(address) == bundle
        assert await fetch_map(address, LATENT_SPACE) == bundle
        with pytest.raises(InvalidMap, match="does not publish the latent-space map a/b"):
            await fetch_map(address, "a/b")


async def test_missing_dictionary_is_reported_with_its_url() -> None:
    async with run_servers(FakeEngine(), bundle=bundle_with_dictionary()) as servers:
        with pytest.raises(InvalidMap, match="/u: HTTP status 404"):
            await fetch_map(str(servers.http._base_url))


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("/.well-known/codec/index.json", None, "HTTP status 404"),
        ("/.well-known/codec/index.json", b"[]", "is not an index"),
        ("/.well-known/codec/index.json", b"\xff", "is not an index"),
        ("/.well-known/codec/index.json", b'{"latents": []}', "publishes no latent-space map"),
        ("/map.json", b"{}", "latent-space map"),
        ("/map.json", b" " * (16 * 1024 * 1024 + 1), "is larger than"),
        ("/map.json", bundle_of(MODEL).document + b"\n", "the index lists the map"),
        ("scales", bytes(8), "expected sha256:"),
        ("scales", None, "HTTP status 404"),
    ],
)
async def test_invalid_file_raises_invalid_map(path: str, content: Any, message: str) -> None:
    files = published_files()
    name = next(name for name in files if path in name)
    if content is None:
        del files[name]
    else:
        files[name] = content
    runner, address = await serve_files(files)
    try:
        with pytest.raises(InvalidMap, match=message):
            await fetch_map(address)
    finally:
        await runner.cleanup()


async def test_unreachable_server_raises_server_unreachable() -> None:
    with pytest.raises(ServerUnreachable, match="cannot connect to http://127.0.0.1:1/.*: Connection refused"):
        await fetch_map("http://127.0.0.1:1")
    with pytest.raises(InvalidMap, match="cannot download /.*: the URL must begin with http:// or https://"):
        await fetch_map("nonsense")
