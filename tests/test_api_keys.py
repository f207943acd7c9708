"""API keys on both protocols and through a gateway."""

import asyncio
import hashlib
import logging
import os
import signal
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import requests
from grpc_health.v1 import health_pb2, health_pb2_grpc

from codec_client import HttpClient, LatentClient
from codec_wire.errors import Unauthenticated
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from core.api_keys import ApiKeys
from tests.support.clients import make_client
from tests.support.commands import invoke
from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import IMAGES, LATENTS, read_error
from tests.support.processes import start_process
from tests.support.serving import http_address, run_http_gateway, run_servers

KEY, OTHER_KEY = "key-of-alice", "key-of-bob"


def write_keys(path: Path, **keys: str) -> None:
    digests = {name: hashlib.sha256(key.encode()).hexdigest() for name, key in keys.items()}
    path.write_text("".join(f"{name} sha256:{digest}\n" for name, digest in digests.items()))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    write_keys(tmp_path / "keys", alice=KEY, bob=OTHER_KEY)
    return tmp_path / "keys"


def small_generation(client: LatentClient) -> Any:
    return client.generate("a sea", size=(64, 64), steps=1)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
async def test_generation_needs_a_valid_key(
    protocol: str, key_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = ApiKeys(None, key_file)
    async with run_servers(FakeEngine(free_running=True), api_keys=keys) as servers:
        with caplog.at_level(logging.DEBUG):
            for key in (KEY, OTHER_KEY):
                async with make_client(servers, protocol, tmp_path, api_key=key) as client:
                    assert (await small_generation(client)).latents.shape == (1, 4, 8, 8)
            for wrong, message in (("wrong", "the API key is not valid"), (None, "requires an API key")):
                async with make_client(servers, protocol, tmp_path, api_key=wrong) as client:
                    with pytest.raises(Unauthenticated, match=message):
                        await small_generation(client)
                    # Discovery requires no key.
                    assert [model.name for model in await client.models()] == ["tiny-sd"]
                    assert (await client.latent_map()).hash
            write_keys(key_file, alice="rotated")
            keys.reload()
            async with make_client(servers, protocol, tmp_path, api_key=KEY) as client:
                with pytest.raises(Unauthenticated):
                    await small_generation(client)
            async with make_client(servers, protocol, tmp_path, api_key="rotated") as client:
                assert await small_generation(client)
    assert caplog.text.count(" key=alice ") == 2
    assert caplog.text.count(" key=bob ") == 1
    for secret in (KEY, OTHER_KEY, "rotated", "wrong"):
        assert secret not in caplog.text


async def test_http_routes_that_need_no_key(key_file: Path) -> None:
    async with run_servers(FakeEngine(), api_keys=ApiKeys(None, key_file)) as servers:
        document = await (await servers.http.get("/openapi.json")).json()
        public: set[str] = set()
        protected: set[str] = set()
        for path, operations in document["paths"].items():
            for operation in operations.values():
                (protected if "401" in operation["responses"] else public).add(path)
                assert ("401" in operation["responses"]) == ("security" in operation)
        assert public == {
            "/livez",
            "/readyz",
            "/health",
            "/codec/health",
            "/codec/info",
            "/codec/schema",
            "/.well-known/codec/index.json",
            "/.well-known/codec/latents/{id}.json",
            "/.well-known/codec/dicts/{hex}.zstd",
            "/.well-known/codec/scales/{hex}.bin",
            "/.well-known/codec/rgb/{id}.json",
            "/.well-known/codec/decoders/{hex}.onnx",
            "/openapi.json",
            "/docs",
            "/",
            "/page/{file}",
        }
        for path in public:
            found = path.replace("{id}", "x").replace("{hex}", "x").replace("{file}", "x")
            assert (await servers.http.get(found)).status in (200, 404)
        for path in protected:
            method = "get" if "get" in document["paths"][path] else "post"
            response = await servers.http.request(method, path.replace("{name}", "x"))
            assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert (await read_error(response))["code"] == "unauthenticated"


async def test_preflight_request_needs_no_key(key_file: Path) -> None:
    preflight = {"Origin": "http://127.0.0.1", "Access-Control-Request-Method": "POST"}
    async with run_servers(FakeEngine(), api_keys=ApiKeys(None, key_file)) as servers:
        assert (await servers.http.options(IMAGES, headers=preflight)).status == 204


async def test_grpc_health_and_discovery_need_no_key_and_every_other_method_does(key_file: Path) -> None:
    async with run_servers(FakeEngine(), api_keys=ApiKeys(None, key_file)) as servers:
        health_stub: Any = health_pb2_grpc.HealthStub(servers.channel)
        health = await health_stub.Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        assert (await servers.stub.GetServerInfo(pb.GetServerInfoRequest())).models
        assert (await servers.stub.GetLatentMap(pb.GetLatentMapRequest())).hash
        for call in (servers.stub.Generate(pb.GenerateRequest(prompt="a sea")), servers.stub.Decode(iter([]))):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_gateway_sends_its_own_key_and_not_that_of_its_caller(
    key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with run_servers(FakeEngine(free_running=True), api_keys=ApiKeys(None, key_file)) as servers:
        headers = {"Authorization": f"Bearer {OTHER_KEY}"}
        async with run_http_gateway(servers.grpc_address, upstream_api_key=KEY) as (_, http):
            with caplog.at_level(logging.INFO):
                async with http.post(IMAGES, json=LATENTS, headers=headers) as response:
                    assert response.status == 200
                    await response.read()
                async with asyncio.timeout(10):  # the line is logged after the client has the response
                    while "grpc Generate OK ok" not in caplog.text:
                        await asyncio.sleep(0.005)
            assert " key=alice " in caplog.text
        async with run_http_gateway(servers.grpc_address) as (_, http):
            response = await http.post(IMAGES, json=LATENTS, headers=headers)
            assert response.status == 503
            message = (await read_error(response))["message"]
            assert message == "the upstream server refused the credentials of the gateway"
            assert "check CODEC_UPSTREAM_API_KEY" in caplog.text


def test_gateway_with_a_key_that_cannot_be_sent_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEC_UPSTREAM_API_KEY", f"{KEY}\n")  # the line break at the end of a file
    status, output = invoke("gateway", "--upstream", "127.0.0.1:1", "--port", "0")
    assert (status, KEY in output) == (2, False)
    assert "CODEC_UPSTREAM_API_KEY (--upstream-api-key): must consist of printable ASCII characters" in output


async def test_client_sends_the_key_for_dictionaries_and_maps(key_file: Path, tmp_path: Path) -> None:
    async with (
        run_servers(FakeEngine(free_running=True), api_keys=ApiKeys(None, key_file)) as servers,
        HttpClient(http_address(servers), api_key=KEY, cache_dir=tmp_path) as client,
    ):
        assert (await client.latent_map((await small_generation(client)).map_hash)).hash


@pytest.mark.slow
def test_sighup_reads_the_keys_again(key_file: Path) -> None:
    arguments = ["gateway", "--upstream", "127.0.0.1:1", "--port", "0"]
    with start_process(arguments, CODEC_API_KEYS_FILE=str(key_file)) as process:
        url = process.wait_for(r"(http://127\.0\.0\.1:\d+)/v1/images").group(1) + "/v1/models"

        def status(key: str) -> int:
            return requests.get(url, headers={"Authorization": f"Bearer {key}"}, timeout=30).status_code

        assert [status(KEY), status(OTHER_KEY), status("new")] == [503, 503, 401]
        write_keys(key_file, alice="new")
        os.kill(process.popen.pid, signal.SIGHUP)
        process.wait_for("read 1 API keys")
        assert [status(KEY), status(OTHER_KEY), status("new")] == [401, 401, 503]
        key_file.write_text(KEY)
        os.kill(process.popen.pid, signal.SIGHUP)
        process.wait_for("the previous keys stay valid")
        assert [status(KEY), status("new")] == [401, 503]
        assert KEY not in process.output
