"""Modules that --help and the gateway must not import, because each of them delays the start."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODELS = {"torch", "diffusers", "transformers", "accelerate", "PIL", "codec_maps", "codec_golden"}
NOT_FOR_HELP = MODELS | {
    "numpy",
    "grpc",
    "aiohttp",
    "google",
    "msgpack",
    "brotli",
    "zstandard",
    "codec_http",
    "codec_grpc",
}
NOT_FOR_THE_LIST = NOT_FOR_HELP | {"pydantic", "pydantic_settings"}
"""Each command has flags for settings, which need pydantic; the list of commands has none."""

HELP = """
from typer.testing import CliRunner
from codec_server.cli import COMMANDS, app

def print_help(*path):
    result = CliRunner().invoke(app, [*path, "--help"])
    assert result.exit_code == 0, result.output
"""
EVERY_HELP = """
for name, command in COMMANDS.items():
    print_help(name)
    for child in getattr(command.load(name), "commands", ()):
        print_help(name, child)
"""


def imported_packages(code: str) -> set[str]:
    """Return the top-level packages that a new process has imported after it ran `code`."""
    code += "\nimport sys\nprint(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        pytest.param(HELP + "print_help()", NOT_FOR_THE_LIST, id="list of commands"),
        pytest.param(HELP + EVERY_HELP, NOT_FOR_HELP, id="every command"),
    ],
)
def test_help_imports_no_library_that_it_does_not_print(code: str, forbidden: set[str]) -> None:
    assert not imported_packages(code) & forbidden


@pytest.mark.slow
def test_gateway_imports_nothing_that_runs_models() -> None:
    found = imported_packages("import codec_server.actions.gateway, codec_server.runner")
    assert {"aiohttp", "grpc"} <= found
    assert not found & (MODELS | {"codec_client"})


@pytest.mark.slow
def test_client_package_imports_a_transport_only_when_it_is_used() -> None:
    assert not imported_packages("import codec_client, codec_client.errors") & {"aiohttp", "grpc", "numpy"}
    assert "grpc" not in imported_packages("from codec_client import HttpClient, LatentStreamDecoder")
