"""Who can generate through Envoy: pages in a real browser, and clients with JSON Web Tokens."""

import asyncio
import base64
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from google.protobuf import json_format

from codec_http.server import start_http_server
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceStub
from tests.support.browser import needs_chromium, open_page
from tests.support.certificates import Authority
from tests.support.envoy import add_jwt, addresses_of, configuration, needs_envoy, run_envoy
from tests.support.fake_engine import FakeEngine
from tests.support.grpc_requests import request
from tests.support.http_requests import IMAGES, LATENTS
from tests.support.processes import Addresses
from tests.support.serving import run_servers

pytestmark = [pytest.mark.slow, needs_envoy]

FAILED = "TypeError: Failed to fetch"
"""What a script receives if the browser hides a response from it."""
PAGE = """<!doctype html><title>a page</title><script>
const found = {page: location.hostname}, method = "POST", body = JSON.stringify(BODY);
const attempt = async (name, action) => {
  try { found[name] = await action(); } catch (error) { found[name] = String(error); }
};
(async () => {
  const headers = {"Content-Type": "application/json"};
  await attempt("json", async () => {
    const response = await fetch(GRPC, {method, headers, body});
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = (await reader.read()).value;
    await fetch("/first", {method});
    for (let part; !(part = await reader.read()).done;) text += part.value;
    return [response.headers.get("codec-seed"), text.trim().split("\\n").map(line => JSON.parse(line))];
  });
  await attempt("http", async () => {
    const response = await fetch(HTTP, {method, headers, body: JSON.stringify(LATENTS)});
    return [response.status, (await response.arrayBuffer()).byteLength];
  });
  await attempt("text", async () => (await fetch(GRPC, {method, body})).status);
  await attempt("opaque", async () => (await fetch(GRPC, {method, mode: "no-cors", body})).type);
  await fetch("/found", {method, body: JSON.stringify(found)});
})();
</script>"""


@asynccontextmanager
async def page_server(engine: FakeEngine) -> AsyncIterator[tuple[int, dict[str, object], "asyncio.Queue[Any]"]]:
    """Serve PAGE on every path. Yields the port, the values of its names (to be filled in), and its results."""
    values: dict[str, object] = {}
    results: asyncio.Queue[Any] = asyncio.Queue()

    async def show(_: web.Request) -> web.Response:
        text = PAGE
        for name, value in values.items():
            text = text.replace(name, json.dumps(value))
        return web.Response(text=text, content_type="text/html")

    async def release(_: web.Request) -> web.Response:
        engine.release_steps(4)
        return web.Response()

    async def store(page_request: web.Request) -> web.Response:
        results.put_nowait(await page_request.json())
        return web.Response()

    app = web.Application()
    app.add_routes([web.get("/", show), web.post("/first", release), web.post("/found", store)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1], values, results
    finally:
        await runner.cleanup()


@needs_chromium
async def test_only_pages_of_allowed_origins_can_generate(tmp_path: Path) -> None:
    engine = FakeEngine()  # the first step is held until the page has read the first message
    async with run_servers(engine) as servers, page_server(engine) as (port, values, results):
        origin = f"http://app.example:{port}"
        http = await start_http_server(servers.service, "127.0.0.1", 0, 60, allowed_origins=[origin])
        addresses = Addresses(f"http://127.0.0.1:{http.port}", servers.grpc_address)
        try:
            async with run_envoy(configuration([addresses], origin), tmp_path) as envoy, asyncio.timeout(120):
                body = json_format.MessageToDict(request(), preserving_proto_field_name=True)
                values |= {"LATENTS": LATENTS, "BODY": body, "HTTP": envoy.http + IMAGES}
                values["GRPC"] = f"http://{envoy.grpc}/codec.latents.v1.LatentService/Generate"
                found = {}
                for host in ("elsewhere", "app"):
                    async with open_page(f"http://{host}.example:{port}/", tmp_path / host):
                        found[host] = await results.get()
        finally:
            await http.stop()
    refused = {"json": FAILED, "http": FAILED, "text": FAILED, "opaque": "opaque"}
    assert found["elsewhere"] == refused | {"page": "elsewhere.example"}
    seed, messages = found["app"].pop("json")
    assert (seed, [next(iter(message)) for message in messages]) == ("42", ["header", "frame"])
    status, size = found["app"].pop("http")
    assert (status, size > 4 * 2 * 8 * 8) == (200, True)
    assert found["app"] == {"page": "app.example", "text": FAILED, "opaque": "opaque"}
    assert len(engine.started) == 2


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """An identity provider: its public key as a JSON Web Key Set, and tokens that it signs."""

    def __init__(self) -> None:
        self._key = generate_private_key(65537, 2048)

    @property
    def keys(self) -> dict[str, Any]:
        """The JSON Web Key Set."""
        numbers = self._key.public_key().public_numbers()
        return {"keys": [{"kty": "RSA", "alg": "RS256", "n": _integer(numbers.n), "e": _integer(numbers.e)}]}

    def token(self, **claims: object) -> str:
        """Return a token that is valid for a minute; `claims` replace its claims."""
        values = {"iss": "https://issuer.example.com", "aud": "codec-diffusers", "exp": int(time.time()) + 60} | claims
        signed = ".".join(base64url(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT"}, values))
        return f"{signed}.{base64url(self._key.sign(signed.encode(), PKCS1v15(), SHA256()))}"


def _integer(value: int) -> str:
    return base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


@asynccontextmanager
async def serve_keys(issuer: Issuer, authority: Authority) -> AsyncIterator[str]:
    """Serve the keys of `issuer` as https://issuer.example.com; yield HOST:PORT."""
    pair = authority.issue("issuer", hosts=["issuer.example.com"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.cert, pair.key)
    app = web.Application()

    async def keys(_: web.Request) -> web.Response:
        return web.json_response(issuer.keys)

    app.router.add_get("/.well-known/jwks.json", keys)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_generations_need_a_token_of_the_issuer_and_discovery_does_not(tmp_path: Path) -> None:
    issuer, engine = Issuer(), FakeEngine(free_running=True)
    authority = Authority(tmp_path / "ca")
    wanted = {
        None: ("UNAUTHENTICATED", 401),
        issuer.token(exp=1): ("UNAUTHENTICATED", 401),
        Issuer().token(): ("UNAUTHENTICATED", 401),
        issuer.token(aud="another"): ("PERMISSION_DENIED", 403),
        issuer.token(): ("OK", 200),
    }
    async with run_servers(engine) as servers, serve_keys(issuer, authority) as keys:
        config = configuration([addresses_of(servers)])
        add_jwt(config, authority.file, keys)
        async with (
            run_envoy(config, tmp_path) as envoy,
            grpc.aio.insecure_channel(envoy.grpc) as channel,
            aiohttp.ClientSession(envoy.http) as session,
        ):
            stub: Any = LatentServiceStub(channel)
            answers = {}
            for token in wanted:
                fields = {} if token is None else {"authorization": f"Bearer {token}"}
                call = stub.Generate(request(), metadata=tuple(fields.items()))
                with suppress(grpc.aio.AioRpcError):
                    while await call.read() is not grpc.aio.EOF:
                        pass
                code = (await call.code()).name
                async with session.post(IMAGES, json=LATENTS, headers=fields) as response:
                    answers[token] = (code, response.status)
            assert (await stub.GetServerInfo(pb.GetServerInfoRequest())).models
            for path in ("/readyz", "/codec/info", "/.well-known/codec/index.json"):
                async with session.get(path) as response:
                    assert response.status == 200, path
            async with session.get("/v1/models") as response:
                assert response.status == 401
    assert answers == wanted
    assert len(engine.started) == 2
