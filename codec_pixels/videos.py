"""Encoding of videos as MP4."""

import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codec_pixels.parameters import Parameters, to_json

CRF = 17
"""Constant rate factor of x264: losses are hardly visible."""


def encode_video(pixels: NDArray[np.uint8], fps: int, parameters: Parameters) -> bytes:
    """Return `pixels`, uint8 RGB [frames, height, width, 3], as an MP4 file: H.264, 4:2:0, `fps` frames per second.

    Height and width must be even. The file's comment contains the parameters as JSON. Raises OSError if the encoder
    fails.
    """
    import imageio_ffmpeg  # noqa: PLC0415 - a gateway does not have it

    height, width = pixels.shape[1:3]
    input_options = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"]
    # One thread, to leave the others to the model.
    codec_options = ["-c:v", "libx264", "-crf", str(CRF), "-pix_fmt", "yuv420p", "-threads", "1"]
    # faststart: playback can begin before the whole file is received. It requires a seekable output file.
    output_options = ["-movflags", "+faststart", "-metadata", f"comment={to_json(parameters)}"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "video.mp4")
        result = subprocess.run(  # noqa: S603 - no shell; the only text from a request is the value of -metadata
            [
                imageio_ffmpeg.get_ffmpeg_exe(),
                "-v",
                "error",
                *input_options,
                *codec_options,
                *output_options,
                str(path),
            ],
            input=np.ascontiguousarray(pixels).reshape(-1).data,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        if result.returncode:
            raise OSError(f"the video encoder failed: {result.stderr.decode(errors='replace').strip()[-500:]}")
        return path.read_bytes()
