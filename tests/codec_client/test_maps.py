"""A client fetches a server's map and files, and refuses whatever does not have its hash."""

import json
from typing import Any

import pytest
from aiohttp import web

from codec_client import ServerUnreachable, fetch_map
from codec_wire.errors import InvalidMap
from tests.codec_http.test_encoding import bundle_with_dictionary
from tests.support.fake_engine import FakeEngine
from tests.support.serving import LATENT_SPACE, MODEL, bundle_of, servers_over


async def test_a_servers_bundle_is_the_one_it_serves() -> None:
    bundle = bundle_of(MODEL)
    async with servers_over(FakeEngine(), bundle=bundle) as servers:
        address = str(servers.http._base_url)
        assert await fetch_map(address) == bundle
        assert await fetch_map(address, LATENT_SPACE) == bundle
        with pytest.raises(InvalidMap, match="publishes no map of a/b"):
            await fetch_map(address, "a/b")


async def test_a_dictionary_that_is_not_where_the_map_says_is_named() -> None:
    async with servers_over(FakeEngine(), bundle=bundle_with_dictionary()) as servers:
        with pytest.raises(InvalidMap, match="/u answers 404"):
            await fetch_map(str(servers.http._base_url))


async def serve(files: dict[str, bytes]) -> tuple[web.AppRunner, str]:
    """Serve bytes by path, as a server that is broken or worse would."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=files[request.path]) if request.path in files else web.Response(status=404)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


def files_of_a_server() -> dict[str, bytes]:
    bundle = bundle_of(MODEL)
    entry = {"id": LATENT_SPACE, "url": "/map.json", "hash": bundle.hash}
    files = {"/.well-known/codec/index.json": json.dumps({"latents": [entry]}).encode(), "/map.json": bundle.document}
    for digest, data in bundle.assets.items():
        files[f"/.well-known/codec/scales/{digest.removeprefix('sha256:')}.bin"] = data
    return files


@pytest.mark.parametrize(
    ("path", "content", "says"),
    [
        ("/.well-known/codec/index.json", None, "answers 404"),
        ("/.well-known/codec/index.json", b"[]", "is no index"),
        ("/.well-known/codec/index.json", b"\xff", "is no index"),
        ("/.well-known/codec/index.json", b'{"latents": []}', "publishes no map"),
        ("/map.json", b"{}", "latent-space map"),
        ("/map.json", b" " * (16 * 1024 * 1024 + 1), "more than"),
        ("/map.json", bundle_of(MODEL).document + b"\n", "lists its map as"),
        ("scales", bytes(8), "expected sha256:"),
        ("scales", None, "answers 404"),
    ],
)
async def test_whatever_is_wrong_is_said(path: str, content: Any, says: str) -> None:
    files = files_of_a_server()
    name = next(name for name in files if path in name)
    if content is None:
        del files[name]
    else:
        files[name] = content
    runner, address = await serve(files)
    try:
        with pytest.raises(InvalidMap, match=says):
            await fetch_map(address)
    finally:
        await runner.cleanup()


async def test_a_server_that_is_not_there_is_said() -> None:
    with pytest.raises(ServerUnreachable, match="no server answers at http://127.0.0.1:1/.*: Connection refused"):
        await fetch_map("http://127.0.0.1:1")
    with pytest.raises(InvalidMap, match="cannot be fetched"):
        await fetch_map("nonsense")
