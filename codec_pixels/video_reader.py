"""Decoding of MP4 files to frames."""

import re
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codec_pixels.temporary_files import storage_errors, temporary_folder

_ADDRESS = re.compile(r"\[[^\]]* @ 0x[0-9a-f]+\] ?")
"""Name and address of an object of ffmpeg, at the beginning of most messages."""


def read_video(data: bytes, width: int, height: int, max_frames: int) -> NDArray[np.uint8]:
    """Return up to `max_frames` frames of an MP4 file, uint8 RGB [frames, height, width, 3].

    The frames are rotated by the angle in the file's metadata, scaled until they cover `width` x `height` pixels, and
    cropped around their centre. ffmpeg decodes the file in a separate process. Raises ValueError if the file cannot be
    decoded, and OutOfStorage if the file cannot be stored as a temporary file for ffmpeg.
    """
    import imageio_ffmpeg  # noqa: PLC0415 - a gateway does not have it

    fit = f"scale={width}:{height}:force_original_aspect_ratio=increase:flags=lanczos+accurate_rnd+full_chroma_int"
    with temporary_folder() as folder:
        path = Path(folder, "video.mp4")
        with storage_errors():
            path.write_bytes(data)
        # Only this file is opened, and only as MP4: other formats can refer to further files and addresses.
        input_options = ["-protocol_whitelist", "file,pipe", "-threads", "1", "-f", "mov", "-i", str(path)]
        output_options = [
            "-vf",
            f"{fit},crop={width}:{height}",
            "-fps_mode",
            "passthrough",
            "-frames:v",
            str(max_frames),
        ]
        result = subprocess.run(  # noqa: S603 - no shell, and no text from a request
            [
                *(imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error"),
                *input_options,
                *output_options,
                *("-f", "rawvideo", "-pix_fmt", "rgb24", "-"),
            ],
            capture_output=True,
            check=False,
        )
    size = width * height * 3
    if result.returncode or len(result.stdout) < size or len(result.stdout) % size:
        reason = result.stderr.decode(errors="replace").strip().splitlines()
        raise ValueError(_message(reason[0], path) if reason else "it has no frames")
    return np.frombuffer(result.stdout, np.uint8).reshape(-1, height, width, 3)


def _message(line: str, path: Path) -> str:
    """Return a line that ffmpeg has printed, without the path of the file and without addresses in memory."""
    return _ADDRESS.sub("", line).replace(str(path), "the file")[:200]
