"""The TypeScript client in web/client: its build, and programs that use it in Node.js."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.npm import install, npm

CLIENT = Path(__file__).resolve().parent.parent.parent / "web" / "client"


def node(program: str, *arguments: str, text: str = "") -> str:
    """Run a program in web/client/test/programs without permission to create code from strings; return its output."""
    command = [
        "node",
        "--disallow-code-generation-from-strings",
        str(CLIENT / "test" / "programs" / program),
        *arguments,
    ]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def build_client() -> None:
    """Install the packages of the client and build it, or skip the test if npm is not installed."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed; it builds the TypeScript client")
    install(CLIENT)
    npm(CLIENT, "run", "build")
