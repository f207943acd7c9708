"""Errors that clients raise for unreachable servers, other kinds of servers and invalid responses."""

import asyncio
import json
import math
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
async def test_unreachable_server_raises_one_line(
    cls: type[HttpClient | GrpcClient], address: str, tmp_path: Path
) -> None:
    async with cls(address, retries=0, cache_dir=tmp_path) as client:
        with pytest.raises(ServerUnreachable, match=f"cannot connect to .*{address}: .") as caught:
            await client.generate("a sea")
        assert "\n" not in str(caught.value)


@pytest.mark.slow
async def test_server_that_starts_later_is_reached_by_a_retry(tmp_path: Path, unused_tcp_port: int) -> None:
    async with HttpClient(f"127.0.0.1:{unused_tcp_port}", cache_dir=tmp_path) as client:
        task = asyncio.create_task(client.generate("a sea"))
        await asyncio.sleep(0.3)
        body = encode(HEADER, WireFormat.MSGPACK) + encode(FRAME, WireFormat.MSGPACK)
        async with run_stub_server(
            lambda _: web.Response(body=body, content_type="application/x-msgpack"), unused_tcp_port
        ):
            assert (await task).latents.shape == (1, 1, 2)


HEADER = LatentStreamHeader("a/b", (1, 2), LatentDtype.FP16, "raw", total_frames=1)
FRAME = LatentFrame(bytes(4), 0, keyframe=True, done=True)


@asynccontextmanager
async def run_stub_server(respond: Callable[[web.Request], web.StreamResponse], port: int = 0) -> AsyncIterator[str]:
    """Run a server that gives the same response to every request, and yield its address."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return respond(request)

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
    ("response", "kind", "message"),
    [
        (web.Response(text="<html>", content_type="text/html"), errors.StreamError, "Content-Type is text/html"),
        (web.Response(status=404, text="nothing here"), UnexpectedAnswer, "HTTP status 404: nothing here"),
        (web.Response(status=302, headers={"Location": "/x"}), UnexpectedAnswer, "HTTP status 302"),
        (web.Response(status=503, text="", headers={"Retry-After": "600"}), errors.NotReady, "503 Service Unavailable"),
        (web.Response(status=503, text="", headers={"Retry-After": "9" * 400}), errors.NotReady, "Service Unavailable"),
        (
            web.Response(status=503, text="", headers={"Retry-After": "9" * 5000}),
            errors.NotReady,
            "Service Unavailable",
        ),
        (web.Response(status=429, text="full"), errors.Overloaded, "full"),
        (web.Response(status=500, text=error_body(code="x", message="y")), UnexpectedAnswer, "HTTP status 500: y"),
        (web.Response(status=500, text='{"error": [1]}'), UnexpectedAnswer, "HTTP status 500"),
        (web.Response(status=401, text=error_body(code="unauthenticated", message="no")), errors.Unauthenticated, "no"),
        (web.Response(body=b"\x81", content_type="application/x-msgpack"), errors.TruncatedStream, "within a message"),
        (web.Response(body=b"", content_type="application/x-msgpack"), errors.TruncatedStream, "without a header"),
    ],
)
async def test_invalid_response_raises_a_typed_error(
    response: web.Response, kind: type[errors.CodecError], message: str, tmp_path: Path
) -> None:
    async with (
        run_stub_server(lambda _: response) as address,
        HttpClient(address, retries=0, cache_dir=tmp_path, compressed=False) as client,
    ):
        with pytest.raises(kind, match=message):
            await client.generate("a sea")


@asynccontextmanager
async def run_slow_server(status: str, body: bytes) -> AsyncIterator[str]:
    """Run a server that sends each byte of the same response in a separate packet, and yield its address."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        for index in range(len(body)):
            await asyncio.sleep(0.001)
            writer.write(body[index : index + 1])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_error_that_is_received_in_pieces_is_read_completely(tmp_path: Path) -> None:
    body = error_body(code="invalid_request", message="steps: must be less", param="steps").encode()
    async with run_slow_server("400 Bad Request", body) as address, HttpClient(address, cache_dir=tmp_path) as client:
        with pytest.raises(errors.InvalidRequest, match="steps: must be less"):
            await client.generate("a sea")


async def test_models_that_are_received_in_pieces_are_read_completely(tmp_path: Path) -> None:
    model = {
        "model": "m",
        "model_aliases": [],
        "modality_supported": [],
        "latent_space_id": "a",
        "latent_map_sha256": "",
    }
    body = json.dumps({"models": [model]}).encode()
    async with run_slow_server("200 OK", body) as address, HttpClient(address, cache_dir=tmp_path) as client:
        assert [found.name for found in await client.models()] == ["m"]


async def test_host_name_that_is_not_valid_is_reported(tmp_path: Path) -> None:
    async with HttpClient("http://a..b", cache_dir=tmp_path) as client:
        with pytest.raises(errors.InvalidSettings, match="server must be http://HOST:PORT or https://HOST:PORT"):
            await client.models()


@pytest.mark.parametrize("option", [{"timeout_s": 0.0}, {"timeout_s": -1.0}, {"timeout_s": math.nan}, {"retries": -1}])
@pytest.mark.parametrize("cls", [HttpClient, GrpcClient])
def test_option_that_allows_no_request_is_reported(cls: type[HttpClient | GrpcClient], option: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidSettings, match=f"{next(iter(option))} must be"):
        cls("127.0.0.1:1", **option)


@pytest.mark.parametrize("key", ["secret\n", "a\0b", "sécret"])
@pytest.mark.parametrize("cls", [HttpClient, GrpcClient])
def test_api_key_that_cannot_be_sent_is_reported_without_the_key(cls: type[HttpClient | GrpcClient], key: str) -> None:
    with pytest.raises(errors.InvalidSettings, match="api_key must consist of printable ASCII characters") as caught:
        cls("127.0.0.1:1", api_key=key)
    assert key.strip() not in str(caught.value)


async def test_key_and_map_pin_are_sent_and_a_started_response_is_not_retried(tmp_path: Path) -> None:
    requests = []

    def respond(request: web.Request) -> web.StreamResponse:
        requests.append(request.headers)
        return web.Response(
            body=encode(HEADER, WireFormat.MSGPACK),
            content_type="application/x-msgpack",
            headers={"Codec-Latent-Map": DIGEST},
        )

    async with (
        run_stub_server(respond) as address,
        HttpClient(address, api_key="k3y", pinned_map=DIGEST, cache_dir=tmp_path) as client,
    ):
        with pytest.raises(errors.TruncatedStream):
            await client.generate("a sea")
    assert [(headers["Authorization"], headers["X-Codec-Map"]) for headers in requests] == [("Bearer k3y", DIGEST)]


async def test_key_and_map_pin_are_sent_over_grpc(tmp_path: Path) -> None:
    calls: list[dict[str, Any]] = []

    class RecordMetadata(grpc.aio.UnaryStreamClientInterceptor):
        async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
            calls.append(dict(details.metadata))
            return await continuation(details, request)

    async with run_servers(FakeEngine(free_running=True)) as servers:
        bundle = servers.service.models.require_default().bundle
        client = GrpcClient(servers.grpc_address, api_key="k3y", pinned_map=bundle.hash, cache_dir=tmp_path)
        client._connection._channel = grpc.aio.insecure_channel(servers.grpc_address, interceptors=[RecordMetadata()])
        async with client:
            await client.generate("a sea")
    assert calls == [{"authorization": "Bearer k3y", "x-codec-map": bundle.hash}]


async def test_response_without_a_map_hash_fails_the_map_pin(tmp_path: Path) -> None:
    body = encode(HEADER, WireFormat.MSGPACK) + encode(FRAME, WireFormat.MSGPACK)
    async with (
        run_stub_server(lambda _: web.Response(body=body, content_type="application/x-msgpack")) as address,
        HttpClient(address, pinned_map=DIGEST, cache_dir=tmp_path) as client,
    ):
        with pytest.raises(errors.MapMismatch, match="uses the latent-space map None"):
            await client.generate("a sea")


async def test_info_without_models_raises_unexpected_answer(tmp_path: Path) -> None:
    async with (
        run_stub_server(lambda _: web.json_response({"server": "another"})) as address,
        HttpClient(address, cache_dir=tmp_path) as client,
    ):
        with pytest.raises(UnexpectedAnswer, match="/codec/info does not list models"):
            await client.models()


async def test_port_of_the_other_protocol_is_reported_without_a_retry(tmp_path: Path) -> None:
    async with run_servers(FakeEngine()) as servers:
        http = str(servers.http._base_url).removeprefix("http://").rstrip("/")
        async with HttpClient(servers.grpc_address, cache_dir=tmp_path) as client:
            with pytest.raises(UnexpectedAnswer, match="is not an HTTP server; is it the gRPC port"):
                await client.generate("a sea")
        async with GrpcClient(http, cache_dir=tmp_path) as client:
            with pytest.raises(UnexpectedAnswer, match="is not a gRPC server; is it the HTTP port"):
                await client.generate("a sea")
        async with HttpClient(f"https://{http}", retries=0, cache_dir=tmp_path) as client:
            with pytest.raises(
                ServerUnreachable, match="TLS handshake with .* failed: .*; if the server does not use TLS"
            ):
                await client.generate("a sea")
