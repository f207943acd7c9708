"""TLS and mutual TLS on both ports and from a gateway to its upstream server."""

import asyncio
import os
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests
import zstandard

from codec_client import GrpcClient, HttpClient, LatentClient, ServerUnreachable
from codec_grpc.server import start_grpc_server
from codec_grpc.tls import upstream_credentials
from codec_grpc.upstream import Upstream
from codec_http.server import start_http_server
from codec_wire.errors import InvalidSettings
from core.admission import Admission
from core.lifecycle import Lifecycle, State
from core.served import ModelInstance
from core.service import LatentService
from core.settings import read_settings
from core.tls import ServerTls, read_server_tls
from tests.support.certificates import Authority, Pair
from tests.support.commands import invoke
from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import IMAGES, LATENTS
from tests.support.processes import start_process
from tests.support.serving import MODEL, bundle_of

PROTOCOLS = pytest.mark.parametrize("protocol", ["http", "grpc"])


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def other_authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "other")


@asynccontextmanager
async def tls_server(protocol: str, tls: ServerTls) -> AsyncIterator[int]:
    """Run a server with these certificates; yield its port."""
    service = LatentService(Lifecycle(), Admission(8, 10**12))
    service.models.replace([ModelInstance(MODEL, bundle_of(MODEL), FakeEngine(free_running=True), "test")])
    service.lifecycle.transition_to(State.SERVING)
    start = start_http_server if protocol == "http" else start_grpc_server
    server = await start(service, "127.0.0.1", 0, 60, tls=tls)
    try:
        yield server.port
    finally:
        await server.stop()


async def connect(protocol: str, port: int, ca: Authority, pair: Pair | None = None) -> None:
    """Generate with a new connection. Raises ServerUnreachable if a certificate is refused."""
    options: dict[str, Any] = {"ca_file": ca.file, "retries": 0, "cache_dir": ca.file.parent / "cache"}
    if pair is not None:
        options |= {"cert_file": pair.cert, "key_file": pair.key}
    client: LatentClient
    if protocol == "http":
        client = HttpClient(f"https://localhost:{port}", **options)
    else:
        client = GrpcClient(f"localhost:{port}", **options)
    async with client:
        assert (await client.generate("a sea", size=(64, 64))).map_hash == bundle_of(MODEL).hash


@PROTOCOLS
async def test_server_certificate_must_be_valid_and_trusted(
    protocol: str, authority: Authority, other_authority: Authority
) -> None:
    pair = authority.issue("server")
    async with tls_server(protocol, ServerTls(pair.cert, pair.key, None)) as port:
        await connect(protocol, port, authority)
        with pytest.raises(ServerUnreachable):
            await connect(protocol, port, other_authority)
    expired = authority.issue("expired", expired=True)
    async with tls_server(protocol, ServerTls(expired.cert, expired.key, None)) as port:
        with pytest.raises(ServerUnreachable):
            await connect(protocol, port, authority)


@pytest.mark.parametrize(
    ("command", "status", "expected"),
    [
        (("map", "verify", "URL"), 0, "is valid: sha256:"),
        (("inspect", "FILE", "--server", "URL"), 0, "stabilityai/sd-vae-ft-mse"),
        (("decode", "FILE", "-o", "OUTPUT", "--server", "URL", "--device", "cpu"), 1, "--download-decoder"),
        (
            ("decode", "FILE", "-o", "OUTPUT", "--server", "URL", "--on-server", "--bundle", "MAP"),
            2,
            "role is generator",
        ),
    ],
)
async def test_command_trusts_the_given_authority(
    command: tuple[str, ...],
    status: int,
    expected: str,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CODEC_MODELS_DIR", str(tmp_path))
    bundle_of(MODEL).write(tmp_path / "map")
    pair = authority.issue("server")
    async with tls_server("http", ServerTls(pair.cert, pair.key, None)) as port:
        url = f"https://localhost:{port}"
        response = await asyncio.to_thread(requests.post, url + IMAGES, json=LATENTS, verify=str(authority.file))
        (tmp_path / "a.zst").write_bytes(zstandard.compress(response.content))
        paths = {"URL": url, "FILE": tmp_path / "a.zst", "OUTPUT": tmp_path / "a.png", "MAP": tmp_path / "map"}
        arguments = [paths.get(argument, argument) for argument in command]
        trusting = await asyncio.to_thread(invoke, *arguments, "--ca-file", authority.file)
        strict = await asyncio.to_thread(invoke, *arguments)
        no_pem = await asyncio.to_thread(invoke, *arguments, "--ca-file", pair.key)
    assert (trusting[0], expected in trusting[1]) == (status, True), trusting[1]
    assert strict[0] == 3
    assert "unable to get local issuer certificate" in strict[1]
    assert no_pem[0] == 2
    assert "as PEM certificates" in no_pem[1]


@PROTOCOLS
async def test_client_certificate_must_be_present_valid_and_trusted(
    protocol: str, authority: Authority, other_authority: Authority
) -> None:
    pair = authority.issue("server")
    async with tls_server(protocol, ServerTls(pair.cert, pair.key, authority.file)) as port:
        await connect(protocol, port, authority, authority.issue("client"))
        for refused in (None, other_authority.issue("client"), authority.issue("expired", expired=True)):
            with pytest.raises(ServerUnreachable):
                await connect(protocol, port, authority, refused)
        await connect(protocol, port, authority, authority.issue("client"))


@PROTOCOLS
async def test_certificates_are_replaced_without_a_restart(
    protocol: str, authority: Authority, other_authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pair, client_ca = authority.issue("server"), tmp_path / "client-ca.pem"
    client_ca.write_bytes(authority.file.read_bytes())
    old_client, new_client = authority.issue("client"), other_authority.issue("client")
    tls = ServerTls(pair.cert, pair.key, client_ca)
    async with tls_server(protocol, tls) as port:
        await connect(protocol, port, authority, old_client)
        pair.replace_by(other_authority.issue("server"))
        client_ca.write_bytes(other_authority.file.read_bytes())
        tls.reload()
        await connect(protocol, port, other_authority, new_client)
        with pytest.raises(ServerUnreachable):
            await connect(protocol, port, authority, new_client)
        with pytest.raises(ServerUnreachable):
            await connect(protocol, port, other_authority, old_client)
        pair.key.write_bytes(b"damaged")
        tls.reload()
        assert "the previous certificate stays in use: CODEC_TLS_CERT and CODEC_TLS_KEY" in caplog.text
        await connect(protocol, port, other_authority, new_client)


async def test_open_connection_survives_a_reload(authority: Authority) -> None:
    pair = authority.issue("server")
    tls = ServerTls(pair.cert, pair.key, None)
    context = ssl.create_default_context(cafile=authority.file)
    async with (
        tls_server("http", tls) as port,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, limit=1)) as http,
    ):
        assert (await http.get(f"https://localhost:{port}/livez")).status == 200
        tls.reload()
        assert (await http.get(f"https://localhost:{port}/livez")).status == 200


@pytest.mark.parametrize("certificate", ["right", "missing", "wrong CA"])
async def test_gateway_connects_with_mutual_tls(
    certificate: str, authority: Authority, other_authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    pair = authority.issue("server")
    client = (other_authority if certificate == "wrong CA" else authority).issue("gateway")
    flags = {"upstream_tls_ca": authority.file}
    if certificate != "missing":
        flags |= {"upstream_tls_cert": client.cert, "upstream_tls_key": client.key}
    service = LatentService(Lifecycle(), Admission(8, 10**12))
    credentials = upstream_credentials(read_settings(flags))
    async with (
        tls_server("grpc", ServerTls(pair.cert, pair.key, authority.file)) as port,
        Upstream(service, [f"localhost:{port}"], credentials) as upstream,
    ):
        following = asyncio.create_task(upstream.follow())
        async with asyncio.timeout(10):
            while not (service.models.default or "waiting for the upstream server" in caplog.text):
                await asyncio.sleep(0.01)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    assert (service.models.default is not None) is (certificate == "right")


@pytest.mark.slow
def test_sighup_replaces_the_certificate_of_a_running_server(authority: Authority, other_authority: Authority) -> None:
    pair = authority.issue("server")
    arguments = ["gateway", "--upstream", "127.0.0.1:1", "--port", "0", "--tls-cert", str(pair.cert)]
    with start_process([*arguments, "--tls-key", str(pair.key)]) as process:
        url = process.wait_for(r"https://127\.0\.0\.1:\d+").group() + "/livez"
        assert requests.get(url, verify=str(authority.file), timeout=30).status_code == 200
        pair.replace_by(other_authority.issue("server"))
        os.kill(process.popen.pid, signal.SIGHUP)
        process.wait_for("read the TLS certificate")
        assert requests.get(url, verify=str(other_authority.file), timeout=30).status_code == 200
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(url, verify=str(authority.file), timeout=30)


def test_invalid_files_and_combinations_are_reported(authority: Authority, tmp_path: Path) -> None:
    pair, other = authority.issue("server"), authority.issue("other")
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    for flags, message in (
        ({"tls_cert": pair.cert}, r"TLS needs both CODEC_TLS_CERT .* and CODEC_TLS_KEY"),
        ({"tls_client_ca": authority.file}, r"TLS needs both CODEC_TLS_CERT .* and CODEC_TLS_KEY"),
        ({"tls_cert": pair.cert, "tls_key": tmp_path / "none"}, "CODEC_TLS_KEY: cannot read .*: No such file"),
        ({"tls_cert": pair.cert, "tls_key": other.key}, "are not a certificate and its private key .* mismatch"),
        ({"tls_cert": text, "tls_key": pair.key}, "are not a certificate and its private key in PEM format"),
        ({"tls_cert": pair.cert, "tls_key": pair.key, "tls_client_ca": text}, "CODEC_TLS_CLIENT_CA: .* is not a cert"),
    ):
        with pytest.raises(InvalidSettings, match=message):
            read_server_tls(read_settings(flags))
    assert read_server_tls(read_settings({})) is None
    for flags in ({"upstream_tls_cert": pair.cert, "upstream_tls_key": pair.key}, {"upstream_tls_key": pair.key}):
        with pytest.raises(InvalidSettings, match="needs CODEC_UPSTREAM_TLS_CA"):
            upstream_credentials(read_settings(flags))
    for cls in (HttpClient, GrpcClient):
        with pytest.raises(InvalidSettings, match="a client certificate needs both cert_file and key_file"):
            cls("localhost:1", cert_file=pair.cert)
