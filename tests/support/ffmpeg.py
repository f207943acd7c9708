"""ffmpeg, to read video files independently of the code that wrote them."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray


def run_ffmpeg(path: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run ffmpeg with the file `path` as input and stdout as output; `arguments` are output options."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), *arguments, "-"]
    return subprocess.run(command, capture_output=True, check=True)


def describe_video(path: Path) -> str:
    """Return what ffmpeg prints about a video file: codec, pixel format, size, frame rate."""
    return run_ffmpeg(path, "-f", "null").stderr.decode()


def read_frames(path: Path, width: int, height: int) -> NDArray[np.uint8]:
    """Return the frames of a video file, uint8 [num_frames, height, width, 3]."""
    data = run_ffmpeg(path, "-f", "rawvideo", "-pix_fmt", "rgb24").stdout
    return np.frombuffer(data, np.uint8).reshape(-1, height, width, 3)


def read_comment(path: Path) -> dict[str, Any]:
    """Return the JSON object in the comment field of a video file's metadata."""
    metadata = run_ffmpeg(path, "-f", "ffmetadata").stdout.decode()
    found = re.search(r"^comment=(.*)$", metadata, re.MULTILINE)
    assert found is not None, metadata
    # ffmpeg escapes these characters in its metadata format.
    comment: dict[str, Any] = json.loads(re.sub(r"\\([=;#\\])", r"\1", found[1]))
    return comment
