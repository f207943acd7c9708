"""Pixels as MP4."""

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.media.parameters import Parameters, as_json

CRF = 17
"""x264's constant quality: losses that are hardly seen."""


def encode_video(pixels: NDArray[np.uint8], fps: int, parameters: Parameters) -> bytes:
    """Return `pixels`, [frames, height, width, 3] RGB, as MP4 (H.264, 4:2:0), `fps` frames a second.

    That is what browsers and players open. The parameters stand as JSON in the file's comment. Width and height are
    even. Raises OSError where the encoder fails.
    """
    import imageio_ffmpeg  # noqa: PLC0415 - a gateway renders nothing and does not have it

    height, width = pixels.shape[1:3]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "video.mp4")
        writer = imageio_ffmpeg.write_frames(
            str(path),
            (width, height),
            fps=fps,
            codec="libx264",
            macro_block_size=2,
            # faststart: a player begins before it has the whole file. One thread: the others are the model's.
            output_params=[
                "-crf",
                str(CRF),
                "-threads",
                "1",
                "-movflags",
                "+faststart",
                "-metadata",
                _comment(parameters),
            ],
            ffmpeg_log_level="error",
        )
        try:
            writer.send(None)
            for frame in pixels:
                writer.send(np.ascontiguousarray(frame))
        finally:
            writer.close()
        return path.read_bytes()


def _comment(parameters: Parameters) -> str:
    return f"comment={as_json(parameters)}"
