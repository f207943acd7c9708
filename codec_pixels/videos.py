"""Pixels as MP4."""

import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codec_pixels.parameters import Parameters, to_json

CRF = 17
"""x264's constant quality: losses that are hardly seen."""


def encode_video(pixels: NDArray[np.uint8], fps: int, parameters: Parameters) -> bytes:
    """Return `pixels`, [frames, height, width, 3] RGB, as MP4 (H.264, 4:2:0), `fps` frames a second.

    That is what browsers and players open. The parameters stand as JSON in the file's comment. Width and height are
    even. Raises OSError where the encoder fails.
    """
    import imageio_ffmpeg  # noqa: PLC0415 - a gateway renders nothing and does not have it

    height, width = pixels.shape[1:3]
    given = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"]
    # One thread: the others are the model's.
    coded = ["-c:v", "libx264", "-crf", str(CRF), "-pix_fmt", "yuv420p", "-threads", "1"]
    # faststart: a player begins before it has the whole file. It needs a file, for it goes back to the beginning.
    held = ["-movflags", "+faststart", "-metadata", f"comment={to_json(parameters)}"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "video.mp4")
        done = subprocess.run(  # noqa: S603 - no shell, and nothing of a request but one value of one argument
            [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *given, *coded, *held, str(path)],
            input=np.ascontiguousarray(pixels).reshape(-1).data,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        if done.returncode:
            raise OSError(f"the video encoder failed: {done.stderr.decode(errors='replace').strip()[-500:]}")
        return path.read_bytes()
