"""TLS connections with a private certificate authority."""

import shutil
import ssl
import subprocess
from pathlib import Path

import grpc.aio
import pytest
from aiohttp import web

from codec_client import GrpcClient, HttpClient, ServerUnreachable
from codec_client.downloads import fetch_file, file_session
from codec_grpc.interceptor import ErrorBoundary
from codec_grpc.servicer import LatentServicer
from codec_http.server import build_app
from codec_wire import errors
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import add_LatentServiceServicer_to_server
from tests.support.fake_engine import FakeEngine
from tests.support.serving import run_servers


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a self-signed certificate for localhost and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    arguments = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run(
        ["openssl", *arguments.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    return certificate, key


async def test_https_certificate_is_trusted_only_with_ca_file(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    async with run_servers(FakeEngine(free_running=True)) as servers:
        runner = web.AppRunner(build_app(servers.service, 60), handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "localhost", 0, ssl_context=context).start()
        address = f"https://localhost:{runner.addresses[0][1]}"
        async with HttpClient(address, ca_file=certificate[0], cache_dir=tmp_path) as client:
            assert (await client.generate("a sea")).map_hash == (await client.latent_map()).hash
        async with HttpClient(address, retries=0, cache_dir=tmp_path) as client:
            with pytest.raises(ServerUnreachable, match="is not trusted"):
                await client.generate("a sea")
        async with file_session() as session:
            with pytest.raises(ServerUnreachable, match="is not trusted"):
                await fetch_file(session, f"{address}/latent-maps/file", {})
        await runner.cleanup()


async def test_grpc_tls_certificate_is_trusted_only_with_ca_file(
    certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        server = grpc.aio.server(interceptors=[ErrorBoundary(servers.service, None)])
        add_LatentServiceServicer_to_server(LatentServicer(servers.service, 60), server)
        pair = (certificate[1].read_bytes(), certificate[0].read_bytes())
        port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([pair]))
        await server.start()
        async with GrpcClient(f"localhost:{port}", ca_file=certificate[0], cache_dir=tmp_path) as client:
            assert (await client.generate("a sea")).map_hash == (await client.latent_map()).hash
        async with GrpcClient(f"localhost:{port}", tls=True, retries=0, cache_dir=tmp_path) as client:
            with pytest.raises(ServerUnreachable):
                await client.generate("a sea")
        await server.stop(None)


def test_missing_ca_file_raises_invalid_settings(tmp_path: Path) -> None:
    for cls in (HttpClient, GrpcClient):
        with pytest.raises(errors.InvalidSettings, match="nothing.pem"):
            cls("localhost:1", ca_file=tmp_path / "nothing.pem")


def test_ca_file_that_is_not_pem_raises_invalid_settings(tmp_path: Path) -> None:
    path = tmp_path / "text.pem"
    path.write_text("this is not a certificate")
    for cls in (HttpClient, GrpcClient):
        with pytest.raises(errors.InvalidSettings, match=r"cannot read ca_file .*text\.pem as PEM certificates"):
            cls("localhost:1", ca_file=path)
