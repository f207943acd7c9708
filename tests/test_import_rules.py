"""The package table of docs/architecture.md: which package may import which, without cycles and without torch."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LOWEST: set[str] = set()
CORE_AND_BELOW = {"core", "codec_pixels", "codec_scenes", "codec_wire"}
MAY_IMPORT = {
    "codec_scenes": LOWEST,
    "codec_wire": LOWEST,
    "codec_pixels": {"codec_wire", "codec_scenes"},
    "core": {"codec_wire", "codec_pixels"},
    "codec_maps": CORE_AND_BELOW,
    "codec_grpc": CORE_AND_BELOW,
    "codec_http": CORE_AND_BELOW,
    "codec_ray": CORE_AND_BELOW | {"codec_grpc"},
    "codec_client": {"codec_wire", "codec_pixels"},
    "codec_golden": CORE_AND_BELOW | {"codec_maps", "codec_client"},
    "codec_server": CORE_AND_BELOW
    | {"codec_maps", "codec_grpc", "codec_http", "codec_ray", "codec_client", "codec_golden"},
}
PACKAGES = tuple(MAY_IMPORT)

TRANSPORTS = {"grpc", "grpc_health", "grpc_reflection", "grpc_status", "aiohttp"}
SERIALIZATION = {"msgpack", "google"}
MUST_NOT_IMPORT = {
    "codec_wire": TRANSPORTS | {"asyncio", "socket", "threading"},
    "codec_pixels": TRANSPORTS | SERIALIZATION,
    "core": TRANSPORTS | SERIALIZATION,
    "codec_maps": TRANSPORTS | SERIALIZATION,
    "codec_grpc": {"aiohttp", "msgpack"},
    "codec_http": {"grpc", "grpc_health", "grpc_reflection", "grpc_status"} | SERIALIZATION,
    "codec_ray": TRANSPORTS | SERIALIZATION,
    "codec_client": {"msgpack"},
    "codec_golden": TRANSPORTS | SERIALIZATION,
    "codec_server": SERIALIZATION,
}
"""Third-party and standard library modules that belong to another package."""

HEAVY = {"torch", "diffusers", "transformers"}
MAY_IMPORT_TORCH = (
    "core/diffusers_engine/",
    "codec_pixels/",
    "codec_wire/pipelines/torch_math.py",
    "codec_golden/lpips.py",
    "codec_golden/reference.py",
)
TORCH_TYPES_ONLY = ("codec_wire/encoder.py", "codec_client/stream_decoder.py", "codec_golden/wire.py")
"""Files that import torch for the type checker."""
TORCH_IF_INSTALLED = ("codec_golden/wire_check.py",)
"""Files that import torch in a function, if it is installed."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files_of(package: str) -> list[Path]:
    files = [path for path in (ROOT / package).rglob("*.py") if "generated" not in path.parts]
    assert files
    return files


MODULES = {module_name(path): path for package in PACKAGES for path in files_of(package)}


def imports_of(path: Path) -> set[str]:
    """Return the modules that a file imports, including imports inside functions and under TYPE_CHECKING."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: use absolute imports"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in MODULES else str(node.module))
    return found


def top_level(modules: set[str]) -> set[str]:
    return {name.split(".")[0] for name in modules}


@pytest.mark.parametrize("package", PACKAGES)
def test_package_imports_only_packages_below_it(package: str) -> None:
    for path in files_of(package):
        imported = top_level(imports_of(path))
        assert imported & set(PACKAGES) <= MAY_IMPORT[package] | {package}, path
        assert not imported & MUST_NOT_IMPORT.get(package, set()), path


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_only_the_engine_and_the_decoder_import_torch(package: str) -> None:
    for path in files_of(package):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(MAY_IMPORT_TORCH) or name in (*TORCH_TYPES_ONLY, *TORCH_IF_INSTALLED):
            continue
        assert not top_level(imports_of(path)) & HEAVY, path


def test_no_import_cycles() -> None:
    graph = {name: imports_of(path) & MODULES.keys() for name, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_every_package_has_a_rule() -> None:
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "scripts", "bench", "training"}
    assert found == set(PACKAGES)


WITHOUT_TORCH = """
import sys

ABSENT = {"torch", "diffusers", "transformers", "accelerate", "safetensors", "PIL", "imageio_ffmpeg"}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


def run_without_torch(code: str, *also_without: str) -> subprocess.CompletedProcess[str]:
    absent = "".join(f"ABSENT.add({name!r})\n" for name in also_without)
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + absent + code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
def test_gateway_and_client_work_without_torch() -> None:
    done = run_without_torch(
        """
import numpy as np
import codec_server.actions.gateway, codec_server.cli, codec_wire
from codec_client import GrpcClient, HttpClient, PixelDecoder
from codec_wire.encoder import LatentEncoder
from codec_wire.decoder import LatentDecoder
from codec_wire.latents import LatentDtype, LatentStreamHeader

header = LatentStreamHeader("a/b", (4, 2, 2), LatentDtype.FP16, "int8-adaptive")
frame = LatentEncoder(header).encode(np.ones((4, 2, 2)), keyframe=True, last=True)
print(LatentDecoder(header).decode(frame).sum())
"""
    )
    assert (done.returncode, done.stdout.strip()) == (0, "16.0"), done.stderr


@pytest.mark.slow
def test_serve_without_torch_prints_one_line() -> None:
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


@pytest.mark.slow
def test_front_process_of_the_engine_ray_works_without_torch() -> None:
    done = run_without_torch("import codec_ray.models, codec_server.actions.serve")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_engine_ray_without_ray_prints_one_line() -> None:
    done = run_without_torch(
        """
from codec_server.cli import main
sys.argv = ["codec-diffusers", "serve", "--engine", "ray", "--port", "0", "--grpc-port", "0"]
main()
""",
        "ray",
    )
    assert done.returncode == 2
    assert "error: the engine ray needs ray, which is not installed: install the extra `ray`" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_client_import_works_next_to_a_foreign_package_named_core(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "__init__.py").write_text("raise ImportError('the user\\'s own core')\n")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\nimport codec_client, codec_pixels.vae"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_run_without_torch_blocks_torch() -> None:
    assert run_without_torch("import core.diffusers_engine.engine").returncode == 1
