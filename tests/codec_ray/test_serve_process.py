"""`serve --engine ray` as a process: both protocols, several replicas, SIGTERM and errors."""

import asyncio
import json
import os
import signal
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from codec_client import GrpcClient, HttpClient
from tests.support.process_tree import addresses_of, descendants, niceness_of, wait_until_ended
from tests.support.processes import Addresses, Process, start_process
from tests.support.tiny_sd import save_model_and_map

pytestmark = pytest.mark.slow

RAY = ["serve", "--engine", "ray", "--port", "0", "--grpc-port", "0", "--threads", "1", "--device", "cpu"]
FIELDS: dict[str, Any] = {"size": (64, 64), "steps": 2, "seed": 3, "pipeline": "int8"}


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_model_and_map(folder, "tiny-sd-vae")
    return folder


def server_addresses(process: Process) -> Addresses:
    http = process.wait_for(r"(http://127\.0\.0\.1:\d+)/v1/images").group(1)
    grpc = process.wait_for(r"gRPC +(127\.0\.0\.1:\d+)").group(1)
    process.wait_for("Ready after", seconds=180)
    return Addresses(http, grpc)


def jobs_at(addresses: Addresses) -> int:
    with urllib.request.urlopen(f"{addresses.http}/codec/info", timeout=10) as response:
        jobs: int = json.load(response)["jobs"]
    return jobs


async def test_both_protocols_serve_and_sigterm_finishes_active_jobs(models_dir: Path, tmp_path: Path) -> None:
    arguments = [*RAY, "--model", "tiny-sd", "--models-dir", str(models_dir), "--replicas", "2"]
    with start_process(arguments, HF_HUB_OFFLINE="1") as server:
        addresses = await asyncio.to_thread(server_addresses, server)
        started = descendants(server.popen.pid)
        assert len(started) > 4
        assert niceness_of(started) == niceness_of({os.getpid()})
        # Serve gives each replica a port on all interfaces, which requires Ray's token.
        open_ports = [one for one in addresses_of(started) if not one.startswith("127.0.0.1:")]
        assert len(open_ports) == 2, open_ports
        async with (
            HttpClient(addresses.http, cache_dir=tmp_path) as http,
            GrpcClient(addresses.grpc, cache_dir=tmp_path) as grpc,
        ):
            over_http = await http.generate("a sea", **FIELDS)
            over_grpc = await grpc.generate("a sea", **FIELDS)
            assert over_http.header == over_grpc.header
            assert (over_http.latents == over_grpc.latents).all()
            long = [asyncio.create_task(client.generate("a sea", **FIELDS | {"steps": 80})) for client in (http, grpc)]
            while await asyncio.to_thread(jobs_at, addresses) < 2:
                await asyncio.sleep(0.01)
            server.popen.send_signal(signal.SIGTERM)
            finished = await asyncio.gather(*long)
            assert (finished[0].latents == finished[1].latents).all()
        assert await asyncio.to_thread(server.exit_status) == 0
        assert "Stopped." in server.output
        assert "Traceback" not in server.output
        assert not await asyncio.to_thread(wait_until_ended, started)


def test_unreachable_cluster_is_one_line_and_status_2() -> None:
    with start_process([*RAY, "--ray-address", "127.0.0.1:1"]) as server:
        assert server.exit_status(120) == 2
        assert "error: CODEC_RAY_ADDRESS (--ray-address): cannot connect to 127.0.0.1:1" in server.output
