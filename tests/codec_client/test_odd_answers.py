"""Servers that are not there, not Codec servers, broken, or siblings: what the clients make of their answers."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from aiohttp import web

from codec_client import GrpcClient, HttpClient, ServerUnreachable, UnexpectedAnswer
from codec_wire import WireFormat, encode, errors
from codec_wire.latents import LatentDtype, LatentFrame, LatentStreamHeader
from tests.support.dictionaries import DIGEST
from tests.support.fake_engine import FakeEngine
from tests.support.serving import run_servers


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:1"])
@pytest.mark.parametrize("cls", [HttpClient, GrpcClient])
async def test_no_server_is_one_sentence(cls: type[HttpClient | GrpcClient], address: str, tmp_path: Path) -> None:
    async with cls(address, retries=0, cache_dir=tmp_path) as client:
        with pytest.raises(ServerUnreachable, match=f"no server answers at .*{address}: .") as caught:
            await client.generate("a sea")
        assert "\n" not in str(caught.value)


async def test_a_server_that_comes_later_is_reached(tmp_path: Path, unused_tcp_port: int) -> None:
    async with HttpClient(f"127.0.0.1:{unused_tcp_port}", cache_dir=tmp_path) as client:
        task = asyncio.create_task(client.generate("a sea"))
        await asyncio.sleep(0.3)
        body = encode(HEADER, WireFormat.MSGPACK) + encode(FRAME, WireFormat.MSGPACK)
        async with answering(lambda _: web.Response(body=body, content_type="application/x-msgpack"), unused_tcp_port):
            assert (await task).latents.shape == (1, 1, 2)


HEADER = LatentStreamHeader("a/b", (1, 2), LatentDtype.FP16, "raw", total_frames=1)
FRAME = LatentFrame(bytes(4), 0, keyframe=True, done=True)


@asynccontextmanager
async def answering(answer: Callable[[web.Request], web.StreamResponse], port: int = 0) -> AsyncIterator[str]:
    """Serve one answer to everything, as a server that is no Codec server, or broken, would."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def error_body(**error: Any) -> str:
    return json.dumps({"error": error})


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (web.Response(text="<html>", content_type="text/html"), errors.StreamError, "Content-Type is text/html"),
        (web.Response(status=404, text="nothing here"), UnexpectedAnswer, "answers 404: nothing here"),
        (web.Response(status=302, headers={"Location": "/x"}), UnexpectedAnswer, "answers 302"),
        (web.Response(status=503, text="", headers={"Retry-After": "600"}), errors.NotReady, "not ready"),
        (web.Response(status=429, text="full"), errors.Overloaded, "full"),
        (web.Response(status=500, text=error_body(code="x", message="y")), UnexpectedAnswer, "answers 500: y"),
        (web.Response(status=500, text='{"error": [1]}'), UnexpectedAnswer, "answers 500"),
        (web.Response(status=401, text=error_body(code="unauthenticated", message="no")), errors.Unauthenticated, "no"),
        (web.Response(body=b"\x81", content_type="application/x-msgpack"), errors.TruncatedStream, "within a message"),
        (web.Response(body=b"", content_type="application/x-msgpack"), errors.TruncatedStream, "without a header"),
    ],
)
async def test_what_is_no_codec_answer_is_said(
    answer: web.Response, kind: type[errors.CodecError], says: str, tmp_path: Path
) -> None:
    async with (
        answering(lambda _: answer) as address,
        HttpClient(address, retries=0, cache_dir=tmp_path, compressed=False) as client,
    ):
        with pytest.raises(kind, match=says):
            await client.generate("a sea")


async def test_the_key_and_the_pin_are_sent_and_nothing_is_sent_twice_after_an_answer(tmp_path: Path) -> None:
    requests = []

    def answer(request: web.Request) -> web.StreamResponse:
        requests.append(request.headers)
        return web.Response(
            body=encode(HEADER, WireFormat.MSGPACK),
            content_type="application/x-msgpack",
            headers={"Codec-Latent-Map": DIGEST},
        )

    async with (
        answering(answer) as address,
        HttpClient(address, api_key="k3y", pinned_map=DIGEST, cache_dir=tmp_path) as client,
    ):
        with pytest.raises(errors.TruncatedStream):
            await client.generate("a sea")
    assert [(headers["Authorization"], headers["X-Codec-Map"]) for headers in requests] == [("Bearer k3y", DIGEST)]


async def test_the_key_travels_over_grpc(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    class Watch(grpc.aio.UnaryStreamClientInterceptor):
        async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
            seen.append(dict(details.metadata))
            return await continuation(details, request)

    async with run_servers(FakeEngine(free_running=True)) as servers:
        bundle = servers.service.models.require_default().bundle
        client = GrpcClient(servers.grpc_address, api_key="k3y", pinned_map=bundle.hash, cache_dir=tmp_path)
        client._channel = grpc.aio.insecure_channel(servers.grpc_address, interceptors=[Watch()])
        async with client:
            await client.generate("a sea")
    assert seen == [{"authorization": "Bearer k3y", "x-codec-map": bundle.hash}]


async def test_a_sibling_that_ignores_the_pin_is_refused_by_the_client(tmp_path: Path) -> None:
    body = encode(HEADER, WireFormat.MSGPACK) + encode(FRAME, WireFormat.MSGPACK)
    async with (
        answering(lambda _: web.Response(body=body, content_type="application/x-msgpack")) as address,
        HttpClient(address, pinned_map=DIGEST, cache_dir=tmp_path) as client,
    ):
        with pytest.raises(errors.MapMismatch, match="the answer is of None"):
            await client.generate("a sea")


async def test_a_server_that_lists_no_models_is_said(tmp_path: Path) -> None:
    async with (
        answering(lambda _: web.json_response({"server": "another"})) as address,
        HttpClient(address, cache_dir=tmp_path) as client,
    ):
        with pytest.raises(UnexpectedAnswer, match="/codec/info lists no models"):
            await client.models()


async def test_the_port_of_the_other_protocol_is_said_and_not_asked_again(tmp_path: Path) -> None:
    async with run_servers(FakeEngine()) as servers:
        http = str(servers.http._base_url).removeprefix("http://").rstrip("/")
        async with HttpClient(servers.grpc_address, cache_dir=tmp_path) as client:
            with pytest.raises(UnexpectedAnswer, match="is no HTTP server; is it the gRPC port"):
                await client.generate("a sea")
        async with GrpcClient(http, cache_dir=tmp_path) as client:
            with pytest.raises(UnexpectedAnswer, match="is no gRPC server; is it the HTTP port"):
                await client.generate("a sea")
        async with HttpClient(f"https://{http}", retries=0, cache_dir=tmp_path) as client:
            with pytest.raises(ServerUnreachable, match="no TLS with .*; is it http://"):
                await client.generate("a sea")
