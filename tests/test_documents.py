"""Runs the code snippets in README.md and docs/, unchanged except for server addresses."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec_client.inspection import inspect
from tests.support.ffmpeg import read_frames
from tests.support.processes import COMMAND, Addresses

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def snippets(document: str, language: str = "") -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", document, re.DOTALL | re.MULTILINE)
    return [code for marked, code in blocks if marked == language]


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def with_addresses(text: str, server: Addresses) -> str:
    """Return `text` with the default addresses replaced by those of `server`."""
    return text.replace("http://127.0.0.1:8080", server.http).replace("127.0.0.1:50051", server.grpc)


@pytest.fixture(scope="module")
def outputs(embedded_server: Addresses, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files written by the README's curl command and by every Python snippet."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    folder = tmp_path_factory.mktemp("documents")
    (command,) = [block for block in snippets(README) if block.startswith("curl")]
    run(["bash", "-c", with_addresses(command, embedded_server)], folder)
    for document, count in (
        ("README.md", 2),
        ("docs/client.md", 5),
        ("docs/rendering.md", 2),
        ("docs/video-jobs.md", 1),
    ):
        # A snippet without imports continues another one.
        found = [code for code in snippets((ROOT / document).read_text(), "python") if "import " in code]
        assert len(found) == count, document
        for code in found:
            run([sys.executable, "-W", "error::ResourceWarning", "-c", with_addresses(code, embedded_server)], folder)
    return folder


@pytest.mark.parametrize(
    "name", ["sea.png", "desert.png", "a.png", "b.png", "mountain.png", "streamed.png", "preview.png"]
)
def test_snippet_writes_an_image(outputs: Path, name: str) -> None:
    with Image.open(outputs / name) as image:
        assert image.size == (256, 256)
        assert np.asarray(image).std() > 20


def test_curl_command_saves_a_complete_stream(outputs: Path) -> None:
    report = inspect([(outputs / "latents.bin").read_bytes()])
    assert (report.problem, report.frame_count, report.data_bytes) == (None, 1, 4 * 2 + 4 * 32 * 32)


def test_snippet_writes_a_video(outputs: Path) -> None:
    frames = read_frames(outputs / "waves.mp4", 128, 128)
    assert frames.shape == (12, 128, 128, 3)
    assert frames.std() > 20


def test_first_image_command_writes_an_image(tmp_path: Path) -> None:
    first = next(block for block in snippets(README) if "codec-diffusers generate" in block)
    setup, command, *_ = first.strip().splitlines()
    assert setup == "make setup"
    shell = command.replace(".venv/bin/codec-diffusers", COMMAND)
    run(["bash", "-c", shell], tmp_path)
    with Image.open(tmp_path / "mountain.png") as image:
        assert image.size == (256, 256)
