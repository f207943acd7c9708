"""Temporary files of videos on a disk that is full or read-only: the response, the log and the recovery."""

import logging
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from codec_pixels.video_reader import read_video
from codec_pixels.videos import encode_video
from codec_wire.errors import OutOfStorage
from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import VIDEOS, read_error
from tests.support.rendering import RENDERING_VIDEO
from tests.support.serving import run_servers
from tests.support.video_jobs import VIDEO_JOBS, run_video_server

BODY: dict[str, Any] = {"prompt": "a sea", "size": "64x48", "steps": 1, "frames": 9, "fps": 6}
DISK_BYTES = 64 * 1024


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small file system, in which Python creates its temporary files."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(tmp_path)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a file system can only be mounted by root, in a system that permits it: {error}")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def fill(disk: Path) -> Path:
    """Fill the file system and return the file that does so."""
    file = disk / "filler"
    with pytest.raises(OSError, match="No space left"), file.open("wb", buffering=0) as opened:
        while opened.write(bytes(1024)):
            pass
    return file


async def test_video_on_a_full_disk_returns_503_with_the_reason_and_the_next_one_succeeds(
    disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filler = fill(disk)
    async with run_servers(FakeEngine(free_running=True), RENDERING_VIDEO) as servers:
        for _ in range(4):  # more than the failures after which a device counts as broken
            response = await servers.http.post(VIDEOS, json=BODY)
            assert response.status == 503
            error = await read_error(response)
            assert error["code"] == "out_of_storage"
            assert error["message"] == "the temporary file of the video cannot be written: No space left on device"
        assert (await servers.http.get("/readyz")).status == 200
        assert servers.service.admission.jobs == 0
        assert list(disk.iterdir()) == [filler]
        filler.unlink()
        assert (await servers.http.post(VIDEOS, json=BODY)).status == 200
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_read_only_disk_is_reported_for_videos_in_and_out(disk: Path) -> None:
    video = encode_video(noise(9, 48, 64), 6, {})
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(OutOfStorage, match="cannot be written"):
        read_video(video, 64, 48, 9)
    async with run_servers(FakeEngine(free_running=True), RENDERING_VIDEO) as servers:
        response = await servers.http.post(VIDEOS, json=BODY)
        assert (response.status, (await read_error(response))["code"]) == (503, "out_of_storage")
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        assert (await servers.http.post(VIDEOS, json=BODY)).status == 200
    assert read_video(video, 64, 48, 9).shape == (9, 48, 64, 3)


def test_input_video_on_a_full_disk_is_reported(disk: Path) -> None:
    video = encode_video(noise(9, 48, 64), 6, {})
    fill(disk)
    with pytest.raises(OutOfStorage, match="No space left on device"):
        read_video(video, 64, 48, 9)


async def test_video_job_on_a_full_disk_is_refused_and_a_running_one_fails_with_the_reason(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.video_jobs.runner.MAX_RETRY_S", 0.1)
    engine = FakeEngine()
    async with run_video_server(engine, disk) as server:
        filler = fill(disk)
        response = await server.http.post(VIDEO_JOBS, json=BODY)
        error = await read_error(response)
        assert (response.status, error["code"]) == (503, "out_of_storage")
        filler.unlink()
        video = await server.create(frames=9)
        await engine.wait_until_started(1)
        filler = fill(disk)
        engine.release_steps(2)
        await engine.wait_until_ended(1)
        filler.unlink()
        failed = await server.wait_for(video["id"], "failed")
        assert failed["error"]["code"] == "out_of_storage"
        assert not server.stored_files()


def test_disk_that_becomes_full_while_a_video_is_written_is_the_reason(disk: Path) -> None:
    with pytest.raises(OutOfStorage, match="No space left on device"):
        encode_video(noise(60, 96, 128), 6, {})
    assert list(disk.iterdir()) == []


def noise(frames: int, height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), np.uint8)
