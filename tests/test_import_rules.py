"""The rooms of DESIGN: who may import whom, and that a client or gateway needs no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("core", "codec_client", "codec_wire", "codec_grpc", "codec_http", "codec_maps", "codec_server", "golden")
MAY_IMPORT = {
    "core": {"core"},
    "codec_client": {"core", "codec_wire", "codec_client"},
    "codec_wire": {"core", "codec_wire"},
    "codec_grpc": {"core", "codec_wire", "codec_grpc"},
    "codec_http": {"core", "codec_wire", "codec_http"},
    "codec_maps": {"core", "codec_wire", "codec_http", "codec_maps"},
    "codec_server": set(ROOMS),
    "golden": {"core", "codec_wire", "codec_client", "golden"},
}
PROTOCOLS = {"grpc", "grpc_health", "grpc_reflection", "grpc_status", "aiohttp", "msgpack", "google"}
FOREIGN = {
    "core": PROTOCOLS,
    "codec_client": {"msgpack"},
    "codec_wire": {"grpc", "aiohttp"},
    "codec_grpc": {"aiohttp", "msgpack"},
    "codec_http": {"grpc", "msgpack", "google"},
    "codec_maps": {"grpc", "aiohttp", "msgpack", "google"},
    "codec_server": {"msgpack", "google"},
    "golden": PROTOCOLS,
}
HEAVY = {"torch", "diffusers", "transformers"}
HEAVY_ROOMS = ("core/diffusers_engine/", "core/pipelines/torch_math.py", "golden/lpips.py", "golden/reference.py")
TYPES_ALONE = ("core/encoder.py", "codec_client/stream_decoder.py", "golden/wire.py")
"""Files that name torch for the type checker."""
LAZY = ("golden/wire_check.py",)
"""Files that import it within a function, where it is there."""


def imports_of(path: Path) -> set[str]:
    """Return the first names of all imports in a file, those within functions and TYPE_CHECKING included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            found.add(str(node.module).split(".")[0])
    return found


def files_of(room: str) -> list[Path]:
    files = [path for path in (ROOT / room).rglob("*.py") if "generated" not in path.parts]
    assert files
    return files


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_it_may(room: str) -> None:
    for path in files_of(room):
        names = imports_of(path)
        assert names & set(ROOMS) <= MAY_IMPORT[room], path
        assert not names & FOREIGN[room], path


@pytest.mark.parametrize("room", ROOMS)
def test_torch_and_diffusers_stay_in_the_engine(room: str) -> None:
    for path in files_of(room):
        place = path.relative_to(ROOT).as_posix()
        if place.startswith(HEAVY_ROOMS) or place in (*TYPES_ALONE, *LAZY):
            continue
        assert not imports_of(path) & HEAVY, path


def test_every_package_has_its_rule() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "scripts", "bench", "training"}
    assert packages == set(ROOMS)


WITHOUT_TORCH = """
import sys

ABSENT = {"torch", "diffusers", "transformers", "accelerate", "safetensors", "PIL", "imageio_ffmpeg"}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


def run_without_torch(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_gateway_and_reader_work_where_torch_is_not_installed() -> None:
    done = run_without_torch(
        """
import numpy as np
import codec_client, codec_server.cli, codec_server.gateway, codec_grpc.upstream, codec_wire
from core.encoder import LatentEncoder
from core.decoder import LatentDecoder
from core.latents import LatentDtype, LatentStreamHeader

header = LatentStreamHeader("a/b", (4, 2, 2), LatentDtype.FP16, "int8-adaptive")
frame = LatentEncoder(header).encode(np.ones((4, 2, 2)), keyframe=True, last=True)
print(LatentDecoder(header).decode(frame).sum())
"""
    )
    assert (done.returncode, done.stdout.strip()) == (0, "16.0"), done.stderr


def test_serving_a_model_where_torch_is_not_installed_is_one_line() -> None:
    done = run_without_torch(
        """
from codec_server.cli import main
sys.argv = ["codec-diffusers", "serve", "--model", "x", "--port", "0", "--grpc-port", "0"]
main()
"""
    )
    assert done.returncode == 2
    assert "error: serving a model needs torch, which is not installed" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_check_above_would_notice_torch() -> None:
    assert run_without_torch("import core.diffusers_engine.engine").returncode == 1
