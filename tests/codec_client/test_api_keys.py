"""API keys: clients send the key with every request to their server, and to no other host."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from aiohttp import web

from codec_client import GrpcClient, HttpClient, LatentClient, fetch_map, fetch_maps
from codec_grpc.interceptor import ErrorBoundary
from codec_grpc.servicer import LatentServicer
from codec_http.server import build_app
from codec_wire.errors import CodecError, InvalidMap, Unauthenticated
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import add_LatentServiceServicer_to_server
from tests.support.dictionaries import DICTIONARY, DIGEST, bundle_with_dictionary
from tests.support.fake_engine import FakeEngine
from tests.support.serving import MODEL, Servers, bundle_of, run_servers
from tests.support.static_files import published_files, serve_files

KEY = "k3y"
AUTHORIZATION = f"Bearer {KEY}"


class RequireKey(grpc.aio.ServerInterceptor):
    """Rejects calls without the key."""

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        if dict(details.invocation_metadata).get("authorization") == AUTHORIZATION:
            return await continuation(details)

        async def reject(_request: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no key")

        async def reject_stream(_request: Any, context: Any) -> AsyncIterator[Any]:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no key")
            yield None

        if details.method.endswith("/Generate"):
            return grpc.unary_stream_rpc_method_handler(reject_stream)
        return grpc.unary_unary_rpc_method_handler(reject)


@web.middleware
async def require_key(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    if request.headers.get("Authorization") != AUTHORIZATION:
        raise Unauthenticated("no key")
    return await handler(request)


@asynccontextmanager
async def run_servers_with_key(servers: Servers) -> AsyncIterator[tuple[str, str]]:
    """Yield the HTTP and gRPC addresses of servers that require the key for every request, including discovery."""
    app = build_app(servers.service, 60)
    app.middlewares.append(require_key)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server = grpc.aio.server(interceptors=[RequireKey(), ErrorBoundary(servers.service, None)])
    add_LatentServiceServicer_to_server(LatentServicer(servers.service, 60), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
        await runner.cleanup()


async def test_dictionary_download_sends_the_key(tmp_path: Path) -> None:
    async with (
        run_servers(FakeEngine(free_running=True), bundle=bundle_with_dictionary()) as servers,
        run_servers_with_key(servers) as (http, _),
        HttpClient(http, api_key=KEY, cache_dir=tmp_path) as client,
    ):
        assert (await client.generate("a sea", pipeline="int8", size=(64, 64))).latents.shape == (1, 4, 8, 8)
        assert client.cache.get(DIGEST) == DICTIONARY


@pytest.mark.parametrize("protocol", ["http", "grpc"])
async def test_every_request_of_a_client_sends_the_key(protocol: str, tmp_path: Path) -> None:
    def client_of(addresses: tuple[str, str], **options: Any) -> LatentClient:
        http, address = addresses
        cache_dir = tmp_path / str(len(options))
        return (
            HttpClient(http, cache_dir=cache_dir, **options)
            if protocol == "http"
            else GrpcClient(address, cache_dir=cache_dir, **options)
        )

    bundle = bundle_of(MODEL)
    async with (
        run_servers(FakeEngine(free_running=True), bundle=bundle) as servers,
        run_servers_with_key(servers) as addresses,
    ):
        async with client_of(addresses, api_key=KEY) as client:
            answer = await client.generate("a sea", size=(64, 64))
            assert await client.latent_map(answer.map_hash) == bundle
            assert [model.name for model in await client.models()] == ["tiny-sd"]
        async with client_of(addresses) as client_without_key:
            for call in (
                client_without_key.generate("a sea"),
                client_without_key.models(),
                client_without_key.latent_map(),
            ):
                with pytest.raises(CodecError, match="no key|HTTP status 401"):
                    await call


async def test_fetch_maps_sends_the_key() -> None:
    async with run_servers(FakeEngine()) as servers, run_servers_with_key(servers) as (http, _):
        assert await fetch_maps(http, api_key=KEY) == [servers.service.models.require_default().bundle]
        with pytest.raises(InvalidMap, match="index.json: HTTP status 401"):
            await fetch_maps(http)


async def test_key_is_not_sent_to_other_hosts_that_a_map_refers_to() -> None:
    seen: list[tuple[str, str | None]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers.get("Authorization")))
        return web.Response(body=files[request.path])

    elsewhere = web.Application()
    elsewhere.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(elsewhere)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    files = published_files()
    index = "/.well-known/codec/index.json"
    there = f"http://127.0.0.1:{runner.addresses[0][1]}/map.json"
    own, address = await serve_files(files | {index: files[index].replace(b"/map.json", there.encode())})
    try:
        with pytest.raises(InvalidMap, match=f"{there}.*has another origin; to allow this origin"):
            await fetch_map(address, api_key=KEY)
        assert seen == []
        assert await fetch_map(address, api_key=KEY, map_origins=[there]) == bundle_of(MODEL)
        assert seen == [("/map.json", None)]
    finally:
        await runner.cleanup()
        await own.cleanup()
