"""The example programs decode the same values as codec_client."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec_client import GrpcClient, HttpClient
from codec_client.inspection import inspect
from codec_wire.latents import Modality
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from tests.support.noise_engine import NoiseEngine
from tests.support.serving import MODEL, VIDEO_MODEL, Servers, run_servers

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
IMAGE: dict[str, Any] = {"prompt": "a sea", "size": (32, 24), "steps": 2, "seed": 7}
VIDEO = IMAGE | {"modality": "video-latents", "frames": 5, "fps": 6, "keyframe_interval": 2}
CASES = [("image", name) for name in ("raw", "int8", "int4", "int8-adaptive", "int4-adaptive")] + [
    ("video", name) for name in ("raw", "delta+int8", "delta+int4")
]


async def run(*command: object, **environment: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode or 0, out.decode(), err.decode()


def values_in(output: str) -> np.ndarray[Any, Any]:
    _, *frames = [json.loads(line) for line in output.splitlines()]
    assert [frame["seq"] for frame in frames] == list(range(len(frames)))
    return np.array([frame["values"] for frame in frames], np.float32)


async def expected(servers: Servers, fields: dict[str, Any], cache: Path) -> np.ndarray[Any, Any]:
    options = fields | {"modality": Modality(fields.get("modality", "image-latents"))}
    async with HttpClient(str(servers.http._base_url), cache_dir=cache) as client:
        latents = (await client.generate(**options)).latents
    async with GrpcClient(servers.grpc_address, cache_dir=cache) as client:
        assert np.array_equal((await client.generate(**options)).latents, latents)
    return latents.reshape(len(latents), -1).astype(np.float32)


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the Node.js example outside the repository, with its packages installed."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("node") / "node"
    shutil.copytree(EXAMPLES / "node", folder, ignore=shutil.ignore_patterns("node_modules"))
    done = subprocess.run(
        ["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"npm cannot install the example's packages: {done.stderr.strip()[:200]}"
    return folder


@pytest.mark.parametrize(("kind", "pipeline"), CASES)
async def test_node_example_decodes_the_same_values_over_both_protocols(
    kind: str, pipeline: str, node_folder: Path, tmp_path: Path
) -> None:
    fields = (IMAGE if kind == "image" else VIDEO) | {"pipeline": pipeline}
    width, height = fields["size"]
    proto = {"PROTO_DIR": str(ROOT / "proto")}
    async with run_servers(NoiseEngine(), MODEL if kind == "image" else VIDEO_MODEL) as servers:
        wanted = await expected(servers, fields, tmp_path)
        assert np.ptp(wanted) > 0.5
        over_http = json.dumps(fields | {"size": f"{width}x{height}"})
        for wire_format in ("msgpack", "protobuf"):
            address = str(servers.http._base_url).rstrip("/")
            status, out, err = await run(
                "node", node_folder / "over_http.mjs", address, over_http, wire_format, **proto
            )
            assert status == 0, err
            assert np.array_equal(values_in(out), wanted)
        over_grpc = fields | {"size": {"width": width, "height": height}}
        if kind == "video":
            over_grpc["modality"] = "MODALITY_VIDEO_LATENTS"
        status, out, err = await run(
            "node", node_folder / "over_grpc.mjs", servers.grpc_address, json.dumps(over_grpc), **proto
        )
        assert status == 0, err
        assert np.array_equal(values_in(out), wanted)
        assert json.loads(out.splitlines()[0])["map"] == servers.service.models.require_default().bundle.hash


async def test_node_example_prints_the_error_of_the_server(node_folder: Path) -> None:
    proto = {"PROTO_DIR": str(ROOT / "proto")}
    async with run_servers(NoiseEngine()) as servers:
        invalid = '{"prompt": "a sea", "steps": 0}'
        address = str(servers.http._base_url).rstrip("/")
        for script, target in (("over_http.mjs", address), ("over_grpc.mjs", servers.grpc_address)):
            status, _, err = await run("node", node_folder / script, target, invalid, **proto)
            assert status == 1
            assert "steps: must be greater than or equal to 1" in err


async def test_python_example_decodes_the_same_values_over_both_protocols(tmp_path: Path) -> None:
    async with run_servers(NoiseEngine(), VIDEO_MODEL) as servers:
        fields = VIDEO | {"pipeline": "delta+int8"}
        wanted = await expected(servers, fields, tmp_path)
        for protocol, address in (("http", str(servers.http._base_url)), ("grpc", servers.grpc_address)):
            status, out, err = await run(
                sys.executable, EXAMPLES / "python" / "stream.py", protocol, address, json.dumps(fields)
            )
            assert status == 0, err
            assert np.array_equal(values_in(out), wanted)


async def test_curl_example_saves_a_complete_stream(
    engine: DiffusersEngine, tiny_model: LoadedModel, tmp_path: Path
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    async with run_servers(engine, tiny_model.info) as servers:
        address = str(servers.http._base_url).rstrip("/")
        status, out, err = await run(EXAMPLES / "curl" / "stream.sh", address, tmp_path / "latents.bin")
        assert status == 0, err
        assert servers.service.models.require_default().bundle.hash in out
        report = inspect([(tmp_path / "latents.bin").read_bytes()])
        assert (report.problem, report.frame_count) == (None, 1)
