"""Ctrl-C and closed pipes: the generation is cancelled, and the command exits with one line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.background import background_servers
from tests.support.fake_engine import FakeEngine
from tests.support.noise_engine import NoiseEngine
from tests.support.serving import http_address

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def start(*arguments: object, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "codec_server", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | environment,
    )


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_ctrl_c_cancels_the_generation_on_the_server(protocol: str, tmp_path: Path) -> None:
    engine = FakeEngine()
    with background_servers(engine) as (servers, loop):
        options = ["--grpc", servers.grpc_address] if protocol == "grpc" else ["--server", http_address(servers)]
        with start("generate", "a sea", "-o", tmp_path / "a.png", *options) as process:
            end = time.monotonic() + 120
            while not engine.started and time.monotonic() < end:
                time.sleep(0.05)
            assert engine.started
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        loop.run(engine.wait_until_ended(1))
        assert (process.returncode, out, err) == (130, b"", b"interrupted\n")
        assert engine.finished == 0
        assert not (tmp_path / "a.png").exists()
        loop.run(servers.service.admission.wait_idle())


ANNOUNCING_MODEL = """
import sys
from tests.support.tiny_sd import build_pipeline

def build():
    pipeline = build_pipeline()
    calls = []
    def announce(*_):
        calls.append(1)
        if len(calls) == 9:
            print("sampling", flush=True)
    pipeline.unet.register_forward_pre_hook(announce)
    return pipeline
"""


def test_ctrl_c_stops_a_generation_in_process(tmp_path: Path) -> None:
    (tmp_path / "announcing_model.py").write_text(ANNOUNCING_MODEL)
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    arguments = ["--factory", "announcing_model:build", "--steps", "250", "--size", "512x512", "--threads", "1"]
    with start("generate", "a sea", "-o", tmp_path / "a.png", *arguments, PYTHONPATH=path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"sampling\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (130, b"interrupted\n")


def test_stream_is_written_to_a_pipe_and_a_closed_pipe_is_reported() -> None:
    with background_servers(NoiseEngine()) as (servers, _):
        arguments = ["generate", "a sea", "-o", "-", "--size", "1024x1024", "--server", http_address(servers)]
        with start(*arguments) as generating:
            assert generating.stdout is not None
            body = generating.stdout.read()
        assert generating.returncode == 0
        piped = subprocess.run(
            [sys.executable, "-m", "codec_server", "inspect", "-", "--json"],
            input=body,
            capture_output=True,
            cwd=ROOT,
            check=False,
        )
        assert (piped.returncode, json.loads(piped.stdout)["received_bytes"]) == (0, len(body))
        with start(*arguments) as interrupted:
            assert interrupted.stdout is not None
            interrupted.stdout.close()
            assert interrupted.stderr is not None
            assert (
                interrupted.stderr.read()
                == b"error: cannot write to standard output: the reading process has closed the pipe\n"
            )
        assert interrupted.returncode == 2
