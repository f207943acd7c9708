"""VMAF, Netflix's video quality metric, computed by the ffmpeg binary of imageio-ffmpeg."""

import json
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from codec_golden.errors import NotMeasured
from codec_golden.storage import Pixels

MODEL = "vmaf_v0.6.1"
"""Default model of libvmaf, for full-HD videos on a television. Videos smaller than full HD are rated like videos that
are scaled up to full HD."""
SMALLEST_SIDE = 16


def vmaf(reference: Pixels, images: Pixels, fps: int) -> float:
    """Return the mean VMAF of `images`, a number from 0 to 100. Raises NotMeasured if ffmpeg cannot compute VMAF."""
    height, width = reference.shape[1:3]
    if min(height, width) < SMALLEST_SIDE:
        raise NotMeasured(f"VMAF needs at least {SMALLEST_SIDE} pixels per side")
    ffmpeg = _ffmpeg()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file_name, frames in (("reference", reference), ("images", images)):
            with (folder / file_name).open("wb") as file:
                for frame in frames:
                    file.write(frame.tobytes())
        raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps))
        # libvmaf compares its first input with its second. The model was trained on 4:2:0 video.
        graph = "[0:v]format=yuv420p[a];[1:v]format=yuv420p[b];[a][b]libvmaf="
        graph += f"model=version={MODEL}:log_fmt=json:log_path=log"
        command = [ffmpeg, "-hide_banner", "-nostdin", *raw, "-i", "images", *raw, "-i", "reference"]
        done = subprocess.run(  # noqa: S603 - the binary comes from a package, the arguments from this function
            [*command, "-lavfi", graph, "-f", "null", "-"], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no error message"])[-1]
            raise NotMeasured(f"ffmpeg could not measure VMAF: {reason}")
        score: float = json.loads((folder / "log").read_text())["pooled_metrics"]["vmaf"]["mean"]
    return float(score)


@cache
def _ffmpeg() -> str:
    """Return the path of an ffmpeg binary with libvmaf.

    Raises NotMeasured if no ffmpeg binary with libvmaf is found.
    """
    try:
        import imageio_ffmpeg  # noqa: PLC0415 - searches for its binary when imported
    except ModuleNotFoundError:
        raise NotMeasured("imageio-ffmpeg is not installed") from None
    try:
        path: str = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        raise NotMeasured(
            "ffmpeg not found: it is neither installed nor included in imageio-ffmpeg on this platform"
        ) from None
    filters = subprocess.run([path, "-hide_banner", "-filters"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    if " libvmaf " not in filters:
        raise NotMeasured(f"{path} was built without libvmaf")
    return path
